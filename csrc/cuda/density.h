// Adaptive-bandwidth kernel density over nearest neighbours, by class, and its gradient: what core/density.h computes,
// on the GPU.
//
// The density: a thread for each image and class goes over the image's neighbours twice, in the order of the CPU: for
// the largest exponent, then for the sum relative to it, in float64. The gradient: a warp for each pixel finds how much
// each neighbour pulls, then a block for each pixel reads the neighbours' vectors once, where they lie. No atomics;
// nothing waits for the device.
#pragma once

#include <cstdint>

#include "core/density.h"
#include "cuda/stream.h"

namespace pyhue::cuda {

// Arrays as in core/density.h, but class_counts, which may be (images, classes); exponents (images, pixels, k) is
// scratch memory. A distance of NaN makes the image NaN.
template <class Distance>
void density(const Distance* distances, const int64_t* labels, const int64_t* class_counts, bool counts_of_images,
             int64_t images, int64_t pixels, int64_t k, int64_t classes, double eps, double* exponents,
             double* log_likelihood, cudaStream_t stream);

// Scratch memory, each (images, pixels, k): the neighbours' vectors, and how much they pull. Pieces may lie in
// page-locked memory of the host, `found` and its pieces anywhere on the host.
struct DensityScratch {
  const void** rows;
  double* pulls;
};

// Of a pixel that holds a NaN the distances are NaN.
void density_distances(const FoundNeighbors& found, const double* activations, const void** rows, double* distances,
                       cudaStream_t stream);

template <class Value>
void density_backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments,
                      const DensityScratch& scratch, cudaStream_t stream);

}  // namespace pyhue::cuda
