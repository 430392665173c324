// Vectors of float or double, and the few functions of them that a softmax needs. Included by kernels
// only; as in simd.h, no standard library.
#pragma once

#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

constexpr float kInfinity = __builtin_inff();
template <class Real>
constexpr Real kSmallestNormal = sizeof(Real) == 4 ? __FLT_MIN__ : __DBL_MIN__;

typedef double Doubles __attribute__((vector_size(4 * kWidth)));
typedef int64_t Longs __attribute__((vector_size(4 * kWidth)));

template <class Real>
struct Lanes;
template <>
struct Lanes<float> {
  using Vector = Floats;
  using Integers = Ints;
  static constexpr int count = kWidth;
};
template <>
struct Lanes<double> {
  using Vector = Doubles;
  using Integers = Longs;
  static constexpr int count = kWidth / 2;
};
template <class Real>
using Vector = typename Lanes<Real>::Vector;
template <class Real>
using Integers = typename Lanes<Real>::Integers;

template <class Real>
inline Vector<Real> splat(Real value) {
  return value - Vector<Real>{};
}

inline void store(double* to, Doubles v) { __builtin_memcpy(to, &v, sizeof v); }

inline Doubles multiply_add(Doubles a, Doubles b, Doubles c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm_fmadd_pd(a, b, c);
#elif defined(PYHUE_NEON)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}

// The larger of each pair of lanes; b where either is NaN.
inline Floats max(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
inline Doubles max(Doubles a, Doubles b) {
#if defined(__AVX512F__)
  return _mm512_max_pd(a, b);
#elif defined(__AVX2__)
  return _mm256_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }

// sqrt(x) and 1 / sqrt(x) for x of at least the smallest normal number.
inline void square_roots(Doubles x, Doubles& root, Doubles& inverse) {
  for (int i = 0; i < Lanes<double>::count; ++i) root[i] = square_root(x[i]);
  inverse = 1.0 / root;
}
inline void square_roots(Floats x, Floats& root, Floats& inverse) {
#if defined(__AVX512F__)
  // 14 bits and a Newton step: cheaper than a square root and a division, and within 2 ulp of them.
  const Floats y = _mm512_rsqrt14_ps(x), xy = x * y;
  inverse = multiply_add(y * broadcast(0.5f), multiply_add(-xy, y, broadcast(1.0f)), y);
  root = x * inverse;
#else
  for (int i = 0; i < kWidth; ++i) root[i] = square_root(x[i]);
  inverse = 1.0f / root;
#endif
}

// e^x for x <= 88, within 2 ulp; e^-inf = 0, NaN stays. x = n ln 2 + r, ln 2 in two parts of which the first
// times n is exact.
#if defined(__AVX512F__)
// n in sixteenths, |r| <= ln(2) / 32: the fraction of 2^n from a table, 1 + r + r^2 / 2 + r^3 / 6 (remainder 1e-8).
inline Floats exp(Floats x) {
  const Floats powers = {0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fep+0f,  0x1.3dea64p+0f,
                         0x1.4bfdaep+0f, 0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
                         0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
  x = max(broadcast(-104.0f), x);  // e^-104 rounds to 0
  const Floats shifted = multiply_add(x, broadcast(0x1.715476p+0f), broadcast(0x1.8p19f));
  const Floats n = shifted - 0x1.8p19f;
  Floats r = multiply_add(n, broadcast(-0x1.63p-1f), x);
  r = multiply_add(n, broadcast(0x1.bd0106p-13f), r);
  const Floats power = _mm512_permutexvar_ps((__m512i)shifted, powers);  // by its last 4 bits
  const Floats p = multiply_add(multiply_add(r, broadcast(1.0f / 6), broadcast(0.5f)), r, broadcast(1.0f));
  return _mm512_scalef_ps(multiply_add(power * r, p, power), n);
}
#else
// |r| <= ln(2) / 2; 1 + r + r^2 / 2 + r^3 q(r), q fitted for the least relative error, 4e-9.
inline Floats exp(Floats x) {
  x = max(broadcast(-104.0f), x);
  const Floats shifted = multiply_add(x, broadcast(0x1.715476p+0f), broadcast(0x1.8p23f));
  const Floats n = shifted - 0x1.8p23f;
  Floats r = multiply_add(n, broadcast(-0x1.63p-1f), x);
  r = multiply_add(n, broadcast(0x1.bd0106p-13f), r);
  Floats p = multiply_add(r, broadcast(0x1.6b6e42p-10f), broadcast(0x1.122f88p-7f));
  p = multiply_add(p, r, broadcast(0x1.555688p-5f));
  p = multiply_add(p, r, broadcast(0x1.5554a4p-3f));
  p = multiply_add(p, r, broadcast(0.5f));
  p = multiply_add(p, r, broadcast(1.0f));
  p = multiply_add(p, r, broadcast(1.0f));
  // Two factors of 2, each a normal number, let a result below the smallest normal one round once.
  const Ints k = (Ints)shifted - (Ints)broadcast(0x1.8p23f), half = k >> 1;
  return p * (Floats)((half + 127) << 23) * (Floats)((k - half + 127) << 23);
}
#endif

// The same for x <= 709, with the Taylor series to r^13 (remainder 5e-18).
inline Doubles exp(Doubles x) {
  constexpr double kInverseFactorials[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
  x = max(splat(-746.0), x);
  const Doubles shifted = multiply_add(x, splat(0x1.71547652b82fep+0), splat(0x1.8p52));
  const Doubles n = shifted - 0x1.8p52;
  Doubles r = multiply_add(n, splat(-0x1.62e42feep-1), x);
  r = multiply_add(n, splat(-0x1.a39ef35793c76p-33), r);
  Doubles p = splat(1.0 / 6227020800);
#pragma GCC unroll 13
  for (const double c : kInverseFactorials) p = multiply_add(p, r, splat(c));
#if defined(__AVX512F__)
  return _mm512_scalef_pd(p, n);
#else
  const Longs k = (Longs)shifted - (Longs)splat(0x1.8p52), half = k >> 1;
  return p * (Doubles)((half + 1023) << 52) * (Doubles)((k - half + 1023) << 52);
#endif
}

// tanh x within 4 ulp; NaN stays. Up to 1/2 it is Lambert's fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))) as far as it
// matters, from its end a / b; beyond, nothing cancels in (1 - e^-2|x|) / (1 + e^-2|x|).
template <class V>
inline V tanh(V x) {
  using Scalar = __typeof__(x[0] + x[0]);
  constexpr int kSteps = sizeof(Scalar) == 4 ? 5 : 8;
  V a = splat(static_cast<Scalar>(2 * kSteps - 1)), b = splat(Scalar(1));
  for (int k = kSteps - 1; k > 0; --k) {
    const V next = a * static_cast<Scalar>(2 * k - 1) + x * x * b;
    b = a;
    a = next;
  }
  const V size = x < 0 ? -x : x, e = exp(-2 * size);
  const V top = size > 0.5f ? 1 - e : size * b, bottom = size > 0.5f ? 1 + e : a;
  const V value = top / bottom;
  return x < 0 ? -value : value;
}

// Sum, and maximum, over the lanes, by halves.
template <class V>
inline auto sum_lanes(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof v[0] == 4)
    return _mm512_reduce_add_ps(v);
  else
    return _mm512_reduce_add_pd(v);
#else
  for (int half = sizeof v / sizeof v[0] / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  }
  return v[0];
#endif
}
template <class V>
inline auto max_lanes(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof v[0] == 4)
    return _mm512_reduce_max_ps(v);
  else
    return _mm512_reduce_max_pd(v);
#else
  for (int half = sizeof v / sizeof v[0] / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
  }
  return v[0];
#endif
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
