// The products of the filters of one level, and the tiles of registers that they fill; included by screen_kernel.h.
#pragma once

#include "core/screen_kernel_types.h"
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

// Chosen dimensions are no stride that hardware foresees: rows are fetched some iterations ahead.
inline void prefetch(const uint16_t* row) {
  __builtin_prefetch(row);
  __builtin_prefetch(row + kBlock / 2);
}

// Interleaving two rows of a block pairs their values, but shuffles the vectors between two registers:
// register 0 gets vectors 0-3, 8-11, ..., register 1 the others. This undoes it, once for each sum.
inline void unshuffle(Floats& low, Floats& high) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Floats natural = _mm512_permutex2var_ps(low, first, high);
  high = _mm512_permutex2var_ps(low, second, high);
  low = natural;
}

template <int Q>
inline void dot_products(const uint16_t* block, const int32_t* dims, int count, const void* panel,
                         Floats (&dot)[Q][kTileRegisters]) {
  const uint32_t* pairs = static_cast<const uint32_t*>(panel);
  for (int k = 0; k < count; k += 2, pairs += Q) {
    const uint16_t* even = block + dims[k] * kBlock;
    const uint16_t* odd = block + dims[k + 1] * kBlock;
    prefetch(block + dims[k + kDimsAhead] * kBlock);
    prefetch(block + dims[k + kDimsAhead + 1] * kBlock);
    __m512bh x[kTileRegisters];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i a = load<__m512i>(even + half * 32), b = load<__m512i>(odd + half * 32);
      x[2 * half] = (__m512bh)_mm512_unpacklo_epi16(a, b);
      x[2 * half + 1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
    }
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
      const __m512bh y = (__m512bh)_mm512_set1_epi32(static_cast<int>(pairs[q]));
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = _mm512_dpbf16_ps(dot[q][r], x[r], y);
    }
  }
#pragma GCC unroll 7
  for (int q = 0; q < Q; ++q) {
    unshuffle(dot[q][0], dot[q][1]);
    unshuffle(dot[q][2], dot[q][3]);
  }
}
#else
constexpr int kPanelElementSize = 4;

template <int Q>
inline void dot_products(const uint16_t* block, const int32_t* dims, int count, const void* panel,
                         Floats (&dot)[Q][kTileRegisters]) {
  const float* values = static_cast<const float*>(panel);
  for (int k = 0; k < count; ++k, values += Q) {
    Floats x[kTileRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = widen(block + dims[k] * kBlock + r * kWidth);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = multiply_add(x[r], broadcast(values[q]), dot[q][r]);
    }
  }
}
#endif

// Lanes of 4 unsigned times 4 signed bytes, added to sums. Without VNNI pairs go through 16 bits, which they fit
// because 2 x 255 x kInt8Limit does.
#if defined(__AVX512VNNI__)
constexpr int kInt8Limit = 127;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)y);
}
#else
constexpr int kInt8Limit = 63;
#if defined(__AVX512BW__)
inline Ints add_products(Ints sums, Ints x, Ints y) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)x, (__m512i)y);
  return sums + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#elif defined(__AVX2__)
inline Ints add_products(Ints sums, Ints x, Ints y) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)y);
  return sums + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
inline Ints add_products(Ints sums, Ints x, Ints y) {
  for (int byte = 0; byte < 4; ++byte) {  // shifts bring a byte to the top, and down with or without its sign
    sums += (Ints)((Words)x << (24 - 8 * byte) >> 24) * ((Ints)((Words)y << (24 - 8 * byte)) >> 24);
  }
  return sums;
}
#endif
#endif

// sums[q][r] = the products of Q queries and the vectors of register r, as ScreenBytes has them.
template <int Q>
inline void byte_products(const uint8_t* from, int quads, const int8_t* panel, const ByteQuery* queries,
                          Ints (&sums)[Q][kTileRegisters]) {
  for (int q = 0; q < Q; ++q) {
    for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = Ints{} - queries[q].offset;
  }
  for (int quad = 0; quad < quads; ++quad, from += 4 * kBlock, panel += 4 * Q) {
    Ints x[kTileRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = load<Ints>(from + 4 * r * kWidth);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
      int32_t four;
      __builtin_memcpy(&four, panel + 4 * q, 4);
      const Ints y = Ints{} + four;
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = add_products(sums[q][r], x[r], y);
    }
  }
}

// sum a_i b_i over bfloat16 values, in float32; count a multiple of 32.
inline float row_dot(const uint16_t* a, const uint16_t* b, int count) {
#if defined(__AVX512BF16__)
  Floats even = {}, odd = {};
  int i = 0;
  for (; i + 64 <= count; i += 64) {
    even = _mm512_dpbf16_ps(even, (__m512bh)load<__m512i>(a + i), (__m512bh)load<__m512i>(b + i));
    odd = _mm512_dpbf16_ps(odd, (__m512bh)load<__m512i>(a + i + 32), (__m512bh)load<__m512i>(b + i + 32));
  }
  if (i < count) even = _mm512_dpbf16_ps(even, (__m512bh)load<__m512i>(a + i), (__m512bh)load<__m512i>(b + i));
  return sum(even + odd);
#else
  Floats even = {}, odd = {};
  for (int i = 0; i < count; i += 2 * kWidth) {
    even = multiply_add(widen(a + i), widen(b + i), even);
    odd = multiply_add(widen(a + i + kWidth), widen(b + i + kWidth), odd);
  }
  return sum(even + odd);
#endif
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
