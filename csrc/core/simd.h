// The vectors of one instruction-set level, chosen by the compiler flags of the translation unit.
// Included by kernels only (files *_kernel.h). No standard library here or there: an inline function
// compiled for AVX-512 could be picked by the linker for everyone.
#pragma once

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;  // floats in a register
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef int32_t Ints __attribute__((vector_size(4 * kWidth)));
typedef uint32_t Words __attribute__((vector_size(4 * kWidth)));
typedef uint16_t Halves __attribute__((vector_size(2 * kWidth)));

inline Floats broadcast(float value) { return value - Floats{}; }

template <class Vector>
inline Vector load(const void* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }

// kWidth bfloat16 values; a bfloat16 is the upper half of a float32.
inline Floats widen(const uint16_t* from) {
#if defined(PYHUE_NEON)
  return vreinterpretq_f32_u32(vshll_n_u16(load<Halves>(from), 16));
#else
  return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16);
#endif
}

// a * b + c, in one rounding where the level has FMA.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm_fmadd_ps(a, b, c);
#elif defined(PYHUE_NEON)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

// The sum of the lanes, by halves.
template <class Vector>
inline auto sum(Vector v) {
#if defined(__AVX512F__)
  const auto eight = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX2__)
  const auto eight = v;
#endif
#if defined(__AVX2__)
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
#else
  const auto four = v;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Bit i is set unless a[i] < b[i]; so a NaN sets it.
inline uint32_t not_less(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpnlt_ps(a, b)));
#elif defined(PYHUE_NEON)
  const uint32x4_t bits = {1, 2, 4, 8};
  return vaddvq_u32(vbicq_u32(bits, vcltq_f32(a, b)));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kWidth; ++i) mask |= static_cast<uint32_t>(!(a[i] < b[i])) << i;
  return mask;
#endif
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
