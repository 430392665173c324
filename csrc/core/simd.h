// The vectors of one instruction-set level, chosen by the compiler flags of the translation unit.
// Included by kernels only (files *_kernel.h). No standard library here or there: an inline function
// compiled for AVX-512 could be picked by the linker for everyone.
#pragma once

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
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

inline Floats broadcast(float value) { return value - Floats{}; }

template <class Vector>
inline Vector load(const void* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }

// a * b + c, in one rounding where the level has FMA.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// Bit i is set unless a[i] < b[i]; so a NaN sets it.
inline uint32_t not_less(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpnlt_ps(a, b)));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kWidth; ++i) mask |= static_cast<uint32_t>(!(a[i] < b[i])) << i;
  return mask;
#endif
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
