// The projection kernel of one level; contract in project_kernel_types.h.
#pragma once

#include "core/project_kernel_types.h"
#include "core/simd_math.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Products and sums: fused where the level can, or rounded one by one, which is the same at every level.
template <bool kFused>
void project_tile(const float* const* vectors, const float* panel, int64_t dim, float (*dots)[kPanel]) {
  constexpr int kRegisters = kWidth == 16 ? 4 : 2;  // what fits the register file, for each vector
  for (int64_t begin = 0; begin < dim; begin += kProjectTerms) {
    const int64_t end = begin + kProjectTerms < dim ? begin + kProjectTerms : dim;
    for (int column = 0; column < kPanel; column += kRegisters * kWidth) {
      Floats sums[kProjectVectors][kRegisters] = {};
      for (int64_t k = begin; k < end; ++k) {
        Floats y[kRegisters];
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; ++r) y[r] = load<Floats>(panel + k * kPanel + column + r * kWidth);
#pragma GCC unroll 6
        for (int a = 0; a < kProjectVectors; ++a) {
          const Floats x = broadcast(vectors[a][k]);
#pragma GCC unroll 4
          for (int r = 0; r < kRegisters; ++r) {
            sums[a][r] = kFused ? multiply_add(x, y[r], sums[a][r]) : sums[a][r] + x * y[r];
          }
        }
      }
#pragma GCC unroll 6
      for (int a = 0; a < kProjectVectors; ++a) {
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; ++r) {
          float* to = dots[a] + column + r * kWidth;
          store(to, begin ? load<Floats>(to) + sums[a][r] : sums[a][r]);
        }
      }
    }
  }
}

double center(const float* __restrict x, const double* __restrict center, int64_t dim, double* __restrict values,
              double* largest) {
  constexpr int kLanes = Lanes<double>::count, kRegisters = kDoubleSums / kLanes;
  for (int64_t k = 0; k < dim; ++k) values[k] = x[k] - center[k];
  Doubles sums[kRegisters] = {}, most[kRegisters] = {};
  const auto add = [&](const double* from) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const Doubles value = load<Doubles>(from + r * kLanes), size = value < 0 ? -value : value;
      sums[r] += value * value;
      most[r] = size > most[r] ? size : most[r];
    }
  };
  int64_t k = 0;
  for (; k + kDoubleSums <= dim; k += kDoubleSums) add(values + k);
  double rest[kDoubleSums] = {};
  for (int64_t i = k; i < dim; ++i) rest[i - k] = values[i];
  add(rest);
  double squares[kDoubleSums], sizes[kDoubleSums];
  __builtin_memcpy(squares, sums, sizeof squares);
  __builtin_memcpy(sizes, most, sizeof sizes);
  *largest = 0;
  for (const double size : sizes) *largest = size > *largest ? size : *largest;
  return ((squares[0] + squares[4]) + (squares[2] + squares[6])) +
         ((squares[1] + squares[5]) + (squares[3] + squares[7]));
}

void narrow(const double* __restrict values, double factor, int64_t dim, float* __restrict to) {
  for (int64_t k = 0; k < dim; ++k) to[k] = static_cast<float>(values[k] * factor);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
