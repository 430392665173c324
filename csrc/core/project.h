// Coordinates of queries: vectors times the rows of a rotation.
//
// Written here, although BLAS does it, because the threads of a BLAS keep spinning after a product and take the
// cores from the search that follows.
#pragma once

#include <cstdint>

#include "core/executor.h"

namespace pyhue {

// out[i, j] = <vectors[i], rows[j]> in float64; vectors (n, dim), rows (m, dim), out (n, m), all row-major.
// An entry does not depend on n, m or the number of workers.
void project(const double* vectors, int64_t n, const double* rows, int64_t m, int64_t dim, double* out,
             const Executor& executor);

}  // namespace pyhue
