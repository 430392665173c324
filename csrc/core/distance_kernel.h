// The distance of one level; its contract in distance_kernel_types.h.
#pragma once

#include "core/distance_kernel_types.h"
#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

constexpr int kSums = 32;

inline Floats load_values(const float* from) { return load<Floats>(from); }
inline Floats load_values(const uint16_t* from) { return widen(from); }
// sums[r] += (q - x)^2, element by element.
template <class Stored>
inline void add_squares(const float* q, const Stored* x, Floats (&sums)[kSums / kWidth]) {
#pragma GCC unroll 8
  for (int r = 0; r < kSums / kWidth; ++r) {
    const Floats difference = load<Floats>(q + r * kWidth) - load_values(x + r * kWidth);
    sums[r] += difference * difference;
  }
}

template <class Stored>
float squared_distance_to(const float* q, const void* stored, int dims) {
  const Stored* x = static_cast<const Stored*>(stored);
  Floats sums[kSums / kWidth] = {};
  int i = 0;
  for (; i + kSums <= dims; i += kSums) add_squares(q + i, x + i, sums);
  if (i < dims) {  // the rest, with zeros behind
    float last_q[kSums] = {};
    Stored last_x[kSums] = {};
    __builtin_memcpy(last_q, q + i, sizeof(float) * static_cast<unsigned>(dims - i));
    __builtin_memcpy(last_x, x + i, sizeof(Stored) * static_cast<unsigned>(dims - i));
    add_squares(last_q, last_x, sums);
  }
#pragma GCC unroll 3
  for (int half = kSums / kWidth / 2; half > 0; half /= 2) {
    for (int r = 0; r < half; ++r) sums[r] += sums[r + half];
  }
  return sum(sums[0]);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
