// Loads and stores of the element types, a register at a time. Included by kernels only.
#pragma once

#include "core/element_types.h"
#include "core/simd_math.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

#if !defined(__F16C__) && !defined(__ARM_NEON)
inline float widen(Half half) {
  const uint32_t size = half.bits & 0x7fffu, sign = (half.bits & 0x8000u) << 16;
  const float value = __builtin_bit_cast(float, size << 13) * 0x1p112f;  // exponents differ by 112; exact
  const uint32_t infinite = size >= 0x7c00 ? 0x7f800000u | (size > 0x7c00 ? 0x400000u : 0u) : 0u;  // or no number
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, value) | infinite | sign);
}
inline Half narrow(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x), size = bits & 0x7fffffffu;
  uint32_t half;
  if (size > 0x7f800000) {
    half = 0x7e00u | (size >> 13 & 0x3ffu);
  } else if (size >= 0x477ff000) {  // 65520 and more
    half = 0x7c00;
  } else if (size < 0x38800000) {  // below the smallest normal one: the sum rounds to multiples of 2^-24
    half = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, size) + 0.5f) - 0x3f000000u;
  } else {
    half = ((size + 0xfffu + (size >> 13 & 1u)) >> 13) - (112u << 10);
  }
  return {static_cast<uint16_t>(half | (bits >> 16 & 0x8000u))};
}
#endif

typedef uint16_t HalfWords __attribute__((vector_size(2 * kWidth)));

inline Floats load_elements(const float* from) { return load<Floats>(from); }
inline Doubles load_elements(const double* from) { return load<Doubles>(from); }
inline Floats load_elements(const Bfloat16* from) { return widen(&from->bits); }
inline Floats load_elements(const Half* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps((__m256i)load<HalfWords>(from));
#elif defined(__F16C__)
  return _mm256_cvtph_ps((__m128i)load<HalfWords>(from));
#elif defined(__ARM_NEON)
  return vcvt_f32_f16((float16x4_t)load<HalfWords>(from));
#else
  Floats v;
  for (int i = 0; i < kWidth; ++i) v[i] = widen(from[i]);
  return v;
#endif
}

inline void store_elements(float* to, Floats v) { store(to, v); }
inline void store_elements(double* to, Doubles v) { store(to, v); }
inline void store_elements(Bfloat16* to, Floats v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words quiet = (bits >> 16) | 0x40u;  // rounding could turn a NaN into an infinity
  const HalfWords half = __builtin_convertvector(v == v ? rounded : quiet, HalfWords);
  __builtin_memcpy(to, &half, sizeof half);
}
inline void store_elements(Half* to, Floats v) {
#if defined(__AVX512F__)
  const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __builtin_memcpy(to, &half, sizeof half);
#elif defined(__F16C__)
  const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  __builtin_memcpy(to, &half, sizeof half);
#elif defined(__ARM_NEON)
  const float16x4_t half = vcvt_f16_f32(v);
  __builtin_memcpy(to, &half, sizeof half);
#else
  for (int i = 0; i < kWidth; ++i) to[i] = narrow(v[i]);
#endif
}

// How much of a register is meant: all of it, or its first lanes, at least one.
struct Full {};
struct Part {
  int lanes;
};

template <class Element>
inline auto load_elements(const Element* from, Full) {
  return load_elements(from);
}
template <class Element, class V>
inline void store_elements(Element* to, V v, Full) {
  store_elements(to, v);
}

// Lanes past the part are 0.
template <class Element>
inline auto load_elements(const Element* from, Part part) {
  Element padded[Lanes<RealOf<Element>>::count] = {};
  __builtin_memcpy(padded, from, sizeof(Element) * static_cast<unsigned>(part.lanes));
  return load_elements(padded);
}
template <class Element, class V>
inline void store_elements(Element* to, V v, Part part) {
  Element padded[Lanes<RealOf<Element>>::count];
  store_elements(padded, v);
  __builtin_memcpy(to, padded, sizeof(Element) * static_cast<unsigned>(part.lanes));
}
#if defined(__AVX512F__)
inline Floats load_elements(const float* from, Part part) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << part.lanes) - 1), from);
}
inline void store_elements(float* to, Floats v, Part part) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << part.lanes) - 1), v);
}
#endif

// v, with `other` in the lanes past the part.
template <class V>
inline V keep(V v, Full, V) {
  return v;
}
template <class V>
inline V keep(V v, Part part, V other) {
  using Scalar = __typeof__(v[0] + v[0]);
  Integers<Scalar> lane;
  for (int i = 0; i < Lanes<Scalar>::count; ++i) lane[i] = i;
  return lane < part.lanes ? v : other;
}

// Pairs (x, y) in turns; past the part the lanes of a load are 0.
template <class Real, class V, class Extent>
inline void load_pairs(const Real* from, Extent part, V& x, V& y) {
  constexpr int kLanes = Lanes<Real>::count;
  Real padded[2 * kLanes] = {};
  int lanes = kLanes;
  if constexpr (requires { part.lanes; }) lanes = part.lanes;
  __builtin_memcpy(padded, from, 2 * sizeof(Real) * static_cast<unsigned>(lanes));
  for (int i = 0; i < kLanes; ++i) {
    x[i] = padded[2 * i];
    y[i] = padded[2 * i + 1];
  }
}
template <class Real, class V, class Extent>
inline void store_pairs(Real* to, V x, V y, Extent part) {
  constexpr int kLanes = Lanes<Real>::count;
  Real padded[2 * kLanes];
  for (int i = 0; i < kLanes; ++i) {
    padded[2 * i] = x[i];
    padded[2 * i + 1] = y[i];
  }
  int lanes = kLanes;
  if constexpr (requires { part.lanes; }) lanes = part.lanes;
  __builtin_memcpy(to, padded, 2 * sizeof(Real) * static_cast<unsigned>(lanes));
}

// Calls body(i, Full or Part) for each register of elements begin .. end-1.
template <class Real, class Body>
inline void for_registers(int64_t begin, int64_t end, Body body) {
  constexpr int kLanes = Lanes<Real>::count;
  for (; begin + kLanes <= end; begin += kLanes) body(begin, Full{});
  if (begin < end) body(begin, Part{static_cast<int>(end - begin)});
}

// Past the caches, for results too large to stay there: saves reading each line before it is written.
// `to` is aligned to a whole vector.
template <class Element, class V>
inline void stream_elements(Element* to, V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element) == 4) return _mm512_stream_ps(reinterpret_cast<float*>(to), v);
  if constexpr (sizeof(Element) == 8) return _mm512_stream_pd(reinterpret_cast<double*>(to), v);
#elif defined(__AVX2__)
  if constexpr (sizeof(Element) == 4) return _mm256_stream_ps(reinterpret_cast<float*>(to), v);
  if constexpr (sizeof(Element) == 8) return _mm256_stream_pd(reinterpret_cast<double*>(to), v);
#endif
  store_elements(to, v);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
