// The gradients of the loss times the gradient of what became of it. Included by hue_cross_entropy.cu only.
#pragma once

#include "cuda/elements.h"
#include "cuda/hue_cross_entropy.h"

namespace pyhue::cuda {
namespace {

constexpr int kScaleThreads = 256;

template <class Element>
__device__ inline void scale_array(Element* values, int64_t count, RealOf<Element> factor) {
  using Real = RealOf<Element>;
  constexpr int kLength = Vector<Element>::kLength;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kScaleThreads;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x;
  const auto scale = [factor](Element& value) { narrow(static_cast<Real>(widen(value) * factor), value); };
  const bool aligned = reinterpret_cast<uintptr_t>(values) % 16 == 0;
  const int64_t vectors = aligned ? count / kLength : 0;
  for (int64_t i = begin; i < vectors; i += step) {
    Vector<Element> vector = reinterpret_cast<Vector<Element>*>(values)[i];
#pragma unroll
    for (int j = 0; j < kLength; ++j) scale(vector.values[j]);
    reinterpret_cast<Vector<Element>*>(values)[i] = vector;
  }
  for (int64_t i = vectors * kLength + begin; i < count; i += step) scale(values[i]);
}

// A row of blocks for each array. Where the factor is 1 nothing is read but the factor.
template <class Real>
__global__ void __launch_bounds__(kScaleThreads) scale_arrays(ScaledArrays arrays, const Real* factor_at) {
  const Real factor = *factor_at;
  if (factor == 1) return;
  const ScaledArray& array = arrays.array[blockIdx.y];
  if constexpr (sizeof(Real) == 8) {
    scale_array(static_cast<double*>(array.values), array.count, factor);
  } else if (array.type == kFloat32) {
    scale_array(static_cast<float*>(array.values), array.count, factor);
  } else if (array.type == kBfloat16) {
    scale_array(static_cast<Bfloat16*>(array.values), array.count, factor);
  } else {
    scale_array(static_cast<Half*>(array.values), array.count, factor);
  }
}

}  // namespace
}  // namespace pyhue::cuda
