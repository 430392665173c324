// The element types on the GPU, one at a time and 16 bytes at a time.
#pragma once

#include <bit>
#include <limits>

#include "core/element_types.h"
#include "cuda/device.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace pyhue::cuda {
namespace {

__device__ inline float widen(float value) { return value; }
__device__ inline double widen(double value) { return value; }
__device__ inline float widen(Bfloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

__device__ inline void narrow(float value, float& to) { to = value; }
__device__ inline void narrow(double value, double& to) { to = value; }
#if defined(__CUDACC__)
__device__ inline float widen(Half value) { return __half2float(__ushort_as_half(value.bits)); }
__device__ inline void narrow(float value, Half& to) { to.bits = __half_as_ushort(__float2half_rn(value)); }
__device__ inline void narrow(float value, Bfloat16& to) { to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value)); }
#else
inline float widen(Half value) { return static_cast<float>(std::bit_cast<_Float16>(value.bits)); }
inline void narrow(float value, Half& to) { to.bits = std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
inline void narrow(float value, Bfloat16& to) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  to.bits = static_cast<uint16_t>(value == value ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : bits >> 16 | 0x40);
}
#endif

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

__device__ inline float tangent(float x) { return tanhf(x); }
__device__ inline double tangent(double x) { return tanh(x); }

// sqrt(x) and its inverse, both 0 where x is 0 or subnormal.
__device__ inline void square_roots(float x, float& root, float& inverse) {
  inverse = x >= 0x1p-126f || x != x ? rsqrtf(x) : 0;
  root = x * inverse;
}
__device__ inline void square_roots(double x, double& root, double& inverse) {
  root = x >= 0x1p-1022 || x != x ? sqrt(x) : 0;
  inverse = root == 0 ? 0 : 1 / root;
}

// a b + c, rounded once.
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// The larger one, the other where one is NaN.
__device__ inline float larger(float a, float b) { return fmaxf(a, b); }
__device__ inline double larger(double a, double b) { return fmax(a, b); }

template <class Real>
constexpr Real kLog2E = static_cast<Real>(1.4426950408889634);

// 2^x to 2 units in the last place, and 1 / sqrt(x) for x no smaller than the smallest normal number; a float that
// would be subnormal is 0. One instruction each for floats.
#if defined(__CUDACC__)
__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float inverse_root(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
inline float power_of_two(float x) { return x < -126 ? 0 : std::exp2(x); }
inline float inverse_root(float x) { return 1 / std::sqrt(x); }
#endif
__device__ inline double power_of_two(double x) { return exp2(x); }
__device__ inline double inverse_root(double x) { return 1 / sqrt(x); }

// 16 bytes of a row, loaded and stored at once.
template <class Element>
struct alignas(16) Vector {
  static constexpr int kLength = 16 / sizeof(Element);
  Element values[kLength];
};

// The same 16 bytes in registers: a word is an element, or two of 16 bits, which the compiler would else take apart.
template <class Element>
struct WordOf {
  using Type = Element;
};
template <>
struct WordOf<Bfloat16> {
  using Type = uint32_t;
};
template <>
struct WordOf<Half> {
  using Type = uint32_t;
};
template <class Element>
struct alignas(16) Packed {
  using Word = typename WordOf<Element>::Type;
  static constexpr int kPairs = 8 / sizeof(Element);  // of elements
  Word words[16 / sizeof(Word)];
};

__device__ inline void widen(const Packed<float>& packed, int i, float (&pair)[2]) {
  pair[0] = packed.words[2 * i];
  pair[1] = packed.words[2 * i + 1];
}
__device__ inline void narrow(const float (&pair)[2], Packed<float>& packed, int i) {
  packed.words[2 * i] = pair[0];
  packed.words[2 * i + 1] = pair[1];
}
__device__ inline void widen(const Packed<double>& packed, int, double (&pair)[2]) {
  pair[0] = packed.words[0];
  pair[1] = packed.words[1];
}
__device__ inline void narrow(const double (&pair)[2], Packed<double>& packed, int) {
  packed.words[0] = pair[0];
  packed.words[1] = pair[1];
}
__device__ inline void widen(const Packed<Bfloat16>& packed, int i, float (&pair)[2]) {
  pair[0] = std::bit_cast<float>(packed.words[i] << 16);
  pair[1] = std::bit_cast<float>(packed.words[i] & 0xffff0000u);
}
__device__ inline void widen(const Packed<Half>& packed, int i, float (&pair)[2]) {
  pair[0] = widen(Half{static_cast<uint16_t>(packed.words[i])});
  pair[1] = widen(Half{static_cast<uint16_t>(packed.words[i] >> 16)});
}

#if defined(__CUDACC__)
template <class Pair>
__device__ inline uint32_t bits_of(Pair pair) {
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}
__device__ inline void narrow(const float (&pair)[2], Packed<Bfloat16>& packed, int i) {
  packed.words[i] = bits_of(__floats2bfloat162_rn(pair[0], pair[1]));
}
__device__ inline void narrow(const float (&pair)[2], Packed<Half>& packed, int i) {
  packed.words[i] = bits_of(__floats2half2_rn(pair[0], pair[1]));
}
#else
template <class Element>
void narrow(const float (&pair)[2], Packed<Element>& packed, int i) {
  Element low, high;
  narrow(pair[0], low);
  narrow(pair[1], high);
  packed.words[i] = low.bits | static_cast<uint32_t>(high.bits) << 16;
}
#endif

template <class Element>
__device__ inline Packed<Element> packed_of(RealOf<Element> value) {
  Packed<Element> packed;
#pragma unroll
  for (int i = 0; i < Packed<Element>::kPairs; ++i) narrow({value, value}, packed, i);
  return packed;
}

// The largest element that is not NaN, or NaN.
template <class Element, int kCount>
__device__ inline RealOf<Element> largest_of(const Packed<Element> (&packed)[kCount]) {
  RealOf<Element> largest = -std::numeric_limits<RealOf<Element>>::infinity();
#pragma unroll
  for (int i = 0; i < kCount * Packed<Element>::kPairs; ++i) {
    RealOf<Element> pair[2];
    widen(packed[i / Packed<Element>::kPairs], i % Packed<Element>::kPairs, pair);
    largest = larger(largest, larger(pair[0], pair[1]));
  }
  return largest;
}

#if defined(__CUDACC__)
// 16-bit elements two at a time.
template <class Pair, class Element, int kCount>
__device__ inline float largest_of_pairs(const Packed<Element> (&packed)[kCount]) {
  Pair largest;
#pragma unroll
  for (int i = 0; i < 4 * kCount; ++i) {
    Pair pair;
    memcpy(&pair, &packed[i / 4].words[i % 4], 4);
    largest = i == 0 ? pair : __hmax2(largest, pair);
  }
  return larger(__low2float(largest), __high2float(largest));
}
template <int kCount>
__device__ inline float largest_of(const Packed<Bfloat16> (&packed)[kCount]) {
  return largest_of_pairs<__nv_bfloat162>(packed);
}
template <int kCount>
__device__ inline float largest_of(const Packed<Half> (&packed)[kCount]) {
  return largest_of_pairs<__half2>(packed);
}
#endif

}  // namespace
}  // namespace pyhue::cuda
