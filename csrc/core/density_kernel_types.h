// What the density asks of an instruction-set level: sums over the channels of stored vectors, in float64.
#pragma once

#include <stdint.h>

namespace pyhue {

// to[t] = sum_j pulls[j] (query[t] - rows[j][t]) for t < dim.
using DensityPullKernel = void (*)(const double* query, int dim, const void* const* rows, const double* pulls,
                                   int64_t count, double* to);
// sum_t (query[t] - row[t])^2.
using DensityDistanceKernel = double (*)(const double* query, int dim, const void* row);

}  // namespace pyhue
