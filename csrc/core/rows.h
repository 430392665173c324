// Vectors as a memory stores them, from what a user passes.
#pragma once

#include <cstdint>

#include "core/executor.h"

namespace pyhue {

// (count, dim) float32 or float64 in, row-major; float32 or bfloat16 (rounded to nearest even) out, each row of unit
// Euclidean length if `normalize`, with norms in float64. All-zero rows stay zero; `zero` (count,) says which they are.
// A row's result depends on that row alone. Returns the first row that holds a NaN, an infinity or a value beyond what
// is stored (when not normalised), or -1.
template <class Value, class Stored>
int64_t store_rows(const Value* from, int64_t count, int dim, bool normalize, Stored* to, bool* zero,
                   const Executor& executor);

// The Euclidean norm of a row: scale times norm. Squares of float32 values fit float64, and their scale is 1; float64
// values are scaled by the largest first. norm is 0 for a row of zeros.
struct Length {
  double scale, norm;
};
template <class Value>
Length length_of(const Value* row, int dim);

}  // namespace pyhue
