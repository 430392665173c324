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
#elif defined(PYHUE_NEON)
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
// the value that it stands for, and kByteOffset says that it is no longer 128 more.
#if defined(PYHUE_NEON)
constexpr int kInt8Limit = 127;
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kByteOffset = 128;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  return vusdotq_s32(sums, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(y));
}
#else
constexpr int kByteOffset = 0;
inline Ints add_products(Ints sums, Ints x, Ints y) {
  const int8x16_t a = veorq_s8(vreinterpretq_s8_s32(x), vdupq_n_s8(-128)), b = vreinterpretq_s8_s32(y);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sums, a, b);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
  return vpadalq_s16(sums, vpaddq_s16(low, high));  // pairs fit 16 bits: 2 x 128 x 127
#endif
}
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

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
