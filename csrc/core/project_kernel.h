// The projection kernels of one level; contract in project_kernel_types.h.
#pragma once

#include "core/project_kernel_types.h"
#include "core/simd_math.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Lanes of two products of 16 bits, added to sums.
inline Ints add_pairs(Ints sums, Ints x, Ints y) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)x, (__m512i)y);
#elif defined(__AVX512BW__)
  return sums + (Ints)_mm512_madd_epi16((__m512i)x, (__m512i)y);
#elif defined(__AVXVNNI__)
  return (Ints)_mm256_dpwssd_avx_epi32((__m256i)sums, (__m256i)x, (__m256i)y);
#elif defined(__AVX2__)
  return sums + (Ints)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#elif defined(__SSE2__)
  return sums + (Ints)_mm_madd_epi16((__m128i)x, (__m128i)y);
#elif defined(PYHUE_NEON)
  const int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(y);
  return vaddq_s32(sums, vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
#else
  const Ints low = ((Ints)((Words)x << 16) >> 16) * ((Ints)((Words)y << 16) >> 16);
  return sums + low + (x >> 16) * (y >> 16);
#endif
}

inline Ints broadcast_pair(const int16_t* from) {
  int32_t two;
  __builtin_memcpy(&two, from, sizeof two);
  return Ints{} + two;
}

void project_tile(const int16_t* const* vectors, const int16_t* panel, int64_t pairs, float (*dots)[kPanel]) {
  constexpr int kRegisters = kWidth == 16 ? 4 : 2;  // what fits the register file, for each vector
  constexpr int64_t kPairs = kProjectTerms / 2;
  for (int64_t begin = 0; begin < pairs; begin += kPairs) {
    const int64_t end = begin + kPairs < pairs ? begin + kPairs : pairs;
    for (int column = 0; column < kPanel; column += kRegisters * kWidth) {
      Ints sums[kProjectVectors][kRegisters] = {};
      for (int64_t pair = begin; pair < end; ++pair) {
        Ints y[kRegisters];
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; ++r) {
          y[r] = load<Ints>(panel + 2 * (pair * kPanel + column + r * kWidth));
        }
#pragma GCC unroll 6
        for (int a = 0; a < kProjectVectors; ++a) {
          const Ints x = broadcast_pair(vectors[a] + 2 * pair);
#pragma GCC unroll 4
          for (int r = 0; r < kRegisters; ++r) sums[a][r] = add_pairs(sums[a][r], x, y[r]);
        }
      }
#pragma GCC unroll 6
      for (int a = 0; a < kProjectVectors; ++a) {
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; ++r) {
          float* to = dots[a] + column + r * kWidth;
          const Floats run = __builtin_convertvector(sums[a][r], Floats);
          store(to, begin ? load<Floats>(to) + run : run);
        }
      }
    }
  }
}

// The sum of kDoubleSums numbers that lie in registers, by halves.
template <int kRegisters>
inline double sum_by_halves(const Doubles (&registers)[kRegisters]) {
  double v[kDoubleSums];
  __builtin_memcpy(v, registers, sizeof v);
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

Centered center(const float* __restrict x, const double* __restrict center, int64_t dim, double* __restrict values) {
  constexpr int kLanes = Lanes<double>::count, kRegisters = kDoubleSums / kLanes;
  for (int64_t k = 0; k < dim; ++k) values[k] = x[k] - center[k];
  Doubles most[kRegisters] = {};
  Centered found = {};
  for (int64_t begin = 0; begin < dim; begin += kProjectTerms) {
    const int64_t end = begin + kProjectTerms < dim ? begin + kProjectTerms : dim;
    Doubles sums[kRegisters] = {};
    const auto add = [&](const double* from) {
#pragma GCC unroll 4
      for (int r = 0; r < kRegisters; ++r) {
        const Doubles value = load<Doubles>(from + r * kLanes), size = value < 0 ? -value : value;
        sums[r] += value * value;
        most[r] = size > most[r] ? size : most[r];
      }
    };
    int64_t k = begin;
    for (; k + kDoubleSums <= end; k += kDoubleSums) add(values + k);
    if (k < end) {
      double rest[kDoubleSums] = {};
      for (int64_t i = k; i < end; ++i) rest[i - k] = values[i];
      add(rest);
    }
    const double run = sum_by_halves(sums);
    found.squared_norm += run;
    found.largest_run = run > found.largest_run ? run : found.largest_run;
  }
  double sizes[kDoubleSums];
  __builtin_memcpy(sizes, most, sizeof sizes);
  for (const double size : sizes) found.largest = size > found.largest ? size : found.largest;
  return found;
}

double quantize(const double* __restrict values, double factor, int64_t dim, int16_t* __restrict to) {
  constexpr double kMagic = 0x1.8p52;  // added and taken away: the nearest integer, ties to even
  constexpr int kLanes = Lanes<double>::count, kRegisters = kDoubleSums / kLanes;
  typedef int16_t Shorts __attribute__((vector_size(2 * kLanes)));
  Doubles squares[kRegisters] = {};
  const auto round = [&](const double* from, int16_t* into) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const Doubles count = load<Doubles>(from + r * kLanes) * factor + kMagic - kMagic;
      squares[r] += count * count;
      const Shorts rounded = __builtin_convertvector(count, Shorts);
      __builtin_memcpy(into + r * kLanes, &rounded, sizeof rounded);
    }
  };
  int64_t k = 0;
  for (; k + kDoubleSums <= dim; k += kDoubleSums) round(values + k, to + k);
  if (k < dim) {
    double rest[kDoubleSums] = {};
    int16_t rounded[kDoubleSums];
    for (int64_t i = k; i < dim; ++i) rest[i - k] = values[i];
    round(rest, rounded);
    for (int64_t i = k; i < dim; ++i) to[i] = rounded[i - k];
  }
  return sum_by_halves(squares);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
