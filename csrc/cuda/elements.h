// The element types that a tensor of logits may have; the 16-bit ones widen to float and round to nearest even.
#pragma once

#include <bit>

#include "cuda/device.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace pyhue::cuda {
namespace {

struct Bfloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// The type that sums are kept in.
template <class Element>
struct Accumulator {
  using Real = float;
};
template <>
struct Accumulator<double> {
  using Real = double;
};
template <class Element>
using RealOf = typename Accumulator<Element>::Real;

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

// sqrt(x) and its inverse, both 0 where x is 0 or subnormal.
__device__ inline void square_roots(float x, float& root, float& inverse) {
  inverse = x >= 0x1p-126f || x != x ? rsqrtf(x) : 0;
  root = x * inverse;
}
__device__ inline void square_roots(double x, double& root, double& inverse) {
  root = x >= 0x1p-1022 || x != x ? sqrt(x) : 0;
  inverse = root == 0 ? 0 : 1 / root;
}

// 16 bytes of a row, loaded and stored at once.
template <class Element>
struct alignas(16) Vector {
  static constexpr int kLength = 16 / sizeof(Element);
  Element values[kLength];
};

}  // namespace
}  // namespace pyhue::cuda
