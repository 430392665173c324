// The products of the filters at one level, and the registers that they fill.
#pragma once

#include "core/screen_kernel_types.h"
#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Register tile: queries x registers of vectors, sized so that the accumulators and one row of vectors
// fill the register file (32 registers with AVX-512 and NEON, else 16); the queries come as broadcasts from memory.
#if defined(__AVX512F__)
constexpr int kTileQueries = 7;
constexpr int kTileRegisters = 4;
#elif defined(PYHUE_NEON) && defined(__ARM_FEATURE_DOTPROD)
constexpr int kTileQueries = 6;
constexpr int kTileRegisters = 4;
#else
constexpr int kTileQueries = 6;
constexpr int kTileRegisters = 2;
#endif
constexpr int kTileLanes = kTileRegisters * kWidth;
// Survivors of a group that cost less one by one than another stage of the group does.
constexpr int kFew = kTileLanes / 10;

// Lanes of 4 unsigned times 4 signed bytes, added to sums. Without VNNI pairs go through 16 bits, which they fit
// because 2 x 255 x kInt8Limit does. NEON has products of mixed signs with i8mm only: else a stored byte first becomes
// the value that it stands for, and kByteOffset says that it is no longer 128 more. Without dot products either, kQuads
// quads of coordinates are added in 16 bits, which they fit because 128 x kSumLimit does.
#if defined(PYHUE_NEON)
constexpr int kInt8Limit = 127;
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kByteOffset = 128;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  return vusdotq_s32(sums, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(y));
}
#else
constexpr int kByteOffset = 0;
inline int8x16_t values_of(Ints x) { return veorq_s8(vreinterpretq_s8_s32(x), vdupq_n_s8(-128)); }
#if defined(__ARM_FEATURE_DOTPROD)
inline Ints add_products(Ints sums, Ints x, Ints y) { return vdotq_s32(sums, values_of(x), vreinterpretq_s8_s32(y)); }
#else
#define PYHUE_QUADS 4
inline Ints add_products(Ints sums, Ints x, Ints y) {
  const int8x16_t a = values_of(x), b = vreinterpretq_s8_s32(y);
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
  return vpadalq_s16(sums, vpaddq_s16(low, high));
}
inline Ints add_products(Ints sums, const Ints (&x)[PYHUE_QUADS], const Ints (&y)[PYHUE_QUADS]) {
  int16x8_t low = {}, high = {};
#pragma GCC unroll 4
  for (int n = 0; n < PYHUE_QUADS; ++n) {
    const int8x16_t a = values_of(x[n]), b = vreinterpretq_s8_s32(y[n]);
    low = n ? vmlal_s8(low, vget_low_s8(a), vget_low_s8(b)) : vmull_s8(vget_low_s8(a), vget_low_s8(b));
    high = n ? vmlal_high_s8(high, a, b) : vmull_high_s8(a, b);
  }
  return vpadalq_s16(sums, vpaddq_s16(low, high));
}
inline void broadcast_quads(const int8_t* from, Ints (&to)[PYHUE_QUADS]) {
  const int32x4x4_t four = vld4q_dup_s32(reinterpret_cast<const int32_t*>(from));
#pragma GCC unroll 4
  for (int n = 0; n < PYHUE_QUADS; ++n) to[n] = four.val[n];
}
#endif
#endif
#else
constexpr int kByteOffset = 128;
#if defined(__AVX512VNNI__)
constexpr int kInt8Limit = 127;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)y);
}
#elif defined(__AVXVNNI__)
constexpr int kInt8Limit = 127;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)x, (__m256i)y);
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
#endif

#if defined(PYHUE_QUADS)
constexpr int kQuads = PYHUE_QUADS;
constexpr int kSumLimit = 255;
#else
constexpr int kQuads = 1;
constexpr int kSumLimit = 0x7fffffff;  // none
#endif
inline Ints add_products(Ints sums, const Ints (&x)[1], const Ints (&y)[1]) { return add_products(sums, x[0], y[0]); }
inline void broadcast_quads(const int8_t* from, Ints (&to)[1]) {
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  to[0] = Ints{} + four;
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
