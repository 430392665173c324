// The types that elements of a tensor may have, for kernels of the CPU and of the GPU. No standard library.
#pragma once

#include <stdint.h>

namespace pyhue {

enum ElementType { kFloat32, kFloat64, kBfloat16, kFloat16, kElementTypes };

// Those of 16 bits, which float and double stand beside: they widen to float and round to nearest even.
struct Bfloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// The type that sums are kept in: float, for double double.
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

}  // namespace pyhue
