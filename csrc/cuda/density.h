// Adaptive-bandwidth kernel density over nearest neighbours, by class: what core/density.h computes, on the GPU.
//
// A thread for each image and class goes over the image's neighbours twice, in the order of the CPU: for the largest
// exponent, then for the sum relative to it, in float64. No atomics; nothing waits for the device.
#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace pyhue::cuda {

// Arrays as in core/density.h; exponents (images, pixels, k) is scratch memory. A distance of NaN makes the image NaN.
void density(const float* distances, const int64_t* labels, const int64_t* class_counts, int64_t images, int64_t pixels,
             int64_t k, int64_t classes, double eps, double* exponents, double* log_likelihood, cudaStream_t stream);

}  // namespace pyhue::cuda
