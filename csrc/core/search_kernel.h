// The search kernels of one level; contracts in search_kernel_types.h.
#pragma once

#include "core/search_kernel_types.h"
#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Register tile: queries x registers of vectors, sized so that the accumulators and one row of vectors
// fill the register file (32 registers with AVX-512, else 16); the queries come as broadcasts from memory.
#if defined(__AVX512F__)
constexpr int kTileQueries = 7;
constexpr int kTileRegisters = 4;
#else
constexpr int kTileQueries = 6;
constexpr int kTileRegisters = 2;
#endif
constexpr int kTileLanes = kTileRegisters * kWidth;

#if defined(__AVX512BF16__)
// vdpbf16ps adds the two products of a pair of dimensions.
constexpr int kPanelElementSize = 2;

template <int Q>
inline void dot_products(const uint16_t* block, const void* panel, int dims, Floats (&dot)[Q][kTileRegisters]) {
  const uint32_t* pairs = static_cast<const uint32_t*>(panel);
  for (int k = 0; k < dims / 2; ++k, block += 2 * kBlock, pairs += Q) {
    __m512bh x[kTileRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = (__m512bh)load<Words>(block + r * 2 * kWidth);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
      const __m512bh y = (__m512bh)_mm512_set1_epi32(static_cast<int>(pairs[q]));
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = _mm512_dpbf16_ps(dot[q][r], x[r], y);
    }
  }
}
#else
// A bfloat16 is the upper half of a float32: a shift widens the even dimension of a pair, a mask the odd.
constexpr int kPanelElementSize = 4;

template <int Q>
inline void dot_products(const uint16_t* block, const void* panel, int dims, Floats (&dot)[Q][kTileRegisters]) {
  const float* pairs = static_cast<const float*>(panel);
  for (int k = 0; k < dims / 2; ++k, block += 2 * kBlock, pairs += 2 * Q) {
    Floats x[kTileRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = (Floats)(load<Words>(block + r * 2 * kWidth) << 16);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = multiply_add(x[r], broadcast(pairs[2 * q]), dot[q][r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = (Floats)(load<Words>(block + r * 2 * kWidth) & 0xffff0000u);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = multiply_add(x[r], broadcast(pairs[2 * q + 1]), dot[q][r]);
    }
  }
}
#endif

template <int Q>
int screen(const uint16_t* block, const float* bounds, const void* panel, const QueryBound* query_bounds, int dims,
           Survivor* survivors) {
  int count = 0;
  for (int lane = 0; lane < kBlock; lane += kTileLanes) {
    Floats dot[Q][kTileRegisters] = {};
    dot_products<Q>(block + 2 * lane, panel, dims, dot);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
      const QueryBound& query = query_bounds[q];
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) {
        const float* terms = bounds + lane + r * kWidth;
        Floats bound = multiply_add(load<Floats>(terms + kNorm * kBlock), broadcast(query.norm_factor), dot[q][r]);
        bound = multiply_add(load<Floats>(terms + kError * kBlock), broadcast(query.error_factor), bound);
        bound = multiply_add(load<Floats>(terms + kTail * kBlock), broadcast(query.tail_factor), bound);
        bound -= load<Floats>(terms + kHalfNorm * kBlock);
        uint32_t mask = not_less(bound, broadcast(query.threshold));
        if (__builtin_expect(mask != 0, 0)) {
          float dots[kWidth];
          store(dots, dot[q][r]);
          for (; mask; mask &= mask - 1) {
            const int bit = __builtin_ctz(mask);
            survivors[count++] = {q, lane + r * kWidth + bit, dots[bit]};
          }
        }
      }
    }
  }
  return count;
}

int screen_tile(const uint16_t* block, const float* bounds, const void* panel, const QueryBound* query_bounds,
                int queries, int dims, Survivor* survivors) {
  switch (queries) {
    case 1: return screen<1>(block, bounds, panel, query_bounds, dims, survivors);
    case 2: return screen<2>(block, bounds, panel, query_bounds, dims, survivors);
    case 3: return screen<3>(block, bounds, panel, query_bounds, dims, survivors);
    case 4: return screen<4>(block, bounds, panel, query_bounds, dims, survivors);
    case 5: return screen<5>(block, bounds, panel, query_bounds, dims, survivors);
    case 6: return screen<6>(block, bounds, panel, query_bounds, dims, survivors);
    default: return screen<kTileQueries>(block, bounds, panel, query_bounds, dims, survivors);
  }
}

constexpr int kSums = 32;

float squared_distance(const float* a, const float* b, int dims) {
  constexpr int kRegisters = kSums / kWidth;
  Floats sums[kRegisters] = {};
  int i = 0;
  for (; i + kSums <= dims; i += kSums) {
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      const Floats difference = load<Floats>(a + i + r * kWidth) - load<Floats>(b + i + r * kWidth);
      sums[r] += difference * difference;
    }
  }
  float partial[kSums];
#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; ++r) store(partial + r * kWidth, sums[r]);
  for (int j = 0; i < dims; ++i, ++j) {
    const float difference = a[i] - b[i];
    partial[j] += difference * difference;
  }
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) partial[j] += partial[j + half];
  }
  return partial[0];
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
