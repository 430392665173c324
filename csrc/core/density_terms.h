// The arithmetic of one neighbour's term, the same on the CPU and on the GPU.
#pragma once

#include "core/host_device.h"

namespace pyhue {

constexpr double kLowestExponent = -__DBL_MAX__;

// -D / (nearest + eps). However far, a neighbour counts for something; where all distances overflowed, they count as
// equal. NaN stays.
PYHUE_HOST_DEVICE inline double density_exponent(double distance, double nearest, double eps) {
  if (distance != distance) return distance;
  if (nearest > __DBL_MAX__) return -1.0;
  const double exponent = -distance / (nearest + eps);
  return exponent < kLowestExponent ? kLowestExponent : exponent;
}

// Whether the term depends on its distances: not where it was held above.
PYHUE_HOST_DEVICE inline bool density_term_moves(double exponent, double nearest) {
  return exponent > kLowestExponent && !(nearest > __DBL_MAX__);
}

// Of the loss, with `slope` its derivative by the exponent of a neighbour: the derivative by that neighbour's distance,
// at a fixed bandwidth; and by the nearest distance, through the bandwidth. The nearest neighbour has both in one,
// because they almost cancel.
PYHUE_HOST_DEVICE inline double density_pull(double slope, double nearest, double eps) {
  return -slope / (nearest + eps);
}
PYHUE_HOST_DEVICE inline double density_bandwidth_pull(double slope, double exponent, double nearest, double eps) {
  return -slope * exponent / (nearest + eps);
}
PYHUE_HOST_DEVICE inline double density_nearest_pull(double slope, double nearest, double eps) {
  return -slope * (eps / (nearest + eps)) / (nearest + eps);
}

}  // namespace pyhue
