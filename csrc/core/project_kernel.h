// The projection kernel of one level; contract in project_kernel_types.h.
#pragma once

#include "core/project_kernel_types.h"
#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

void project_tile(const double* const* vectors, const double* const* rows, int64_t dim, double (*dots)[kProjectTile]) {
  constexpr int kLanes = kWidth / 2;
  typedef double Lanes __attribute__((vector_size(8 * kLanes)));
  Lanes sums[kProjectTile][kProjectTile] = {};
  int64_t k = 0;
  for (; k + kLanes <= dim; k += kLanes) {
    Lanes x[kProjectTile];
#pragma GCC unroll 4
    for (int a = 0; a < kProjectTile; ++a) x[a] = load<Lanes>(vectors[a] + k);
#pragma GCC unroll 4
    for (int b = 0; b < kProjectTile; ++b) {
      const Lanes y = load<Lanes>(rows[b] + k);
#pragma GCC unroll 4
      for (int a = 0; a < kProjectTile; ++a) {
#if defined(__AVX512F__)
        sums[a][b] = _mm512_fmadd_pd(x[a], y, sums[a][b]);
#else
        sums[a][b] += x[a] * y;
#endif
      }
    }
  }
  for (int a = 0; a < kProjectTile; ++a) {
    for (int b = 0; b < kProjectTile; ++b) {
      double dot = 0;
      for (int lane = 0; lane < kLanes; ++lane) dot += sums[a][b][lane];
      for (int64_t j = k; j < dim; ++j) dot += vectors[a][j] * rows[b][j];
      dots[a][b] = dot;
    }
  }
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
