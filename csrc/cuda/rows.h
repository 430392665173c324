// Query vectors as core/rows.h stores them, to the bit.
#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace pyhue::cuda {

// (count, dim) float32 or float64 in, row-major; float32 out, each row of unit Euclidean length if `normalize`. A row
// that holds a NaN, an infinity or a value beyond float32 (when not normalised) becomes NaN.
template <class Value>
void store_rows(const Value* from, int64_t count, int dim, bool normalize, float* to, cudaStream_t stream);

}  // namespace pyhue::cuda
