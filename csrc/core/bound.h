// The arithmetic of the bound that drops vectors (pack.h), shared by the CPU and the GPU: what is stored of a
// vector, what of a query, and the threshold that a k-th distance stands for. Every term is rounded to the safe side.
#pragma once

#include "core/bfloat16.h"
#include "core/host_device.h"

namespace pyhue {

// Norms above this are treated as infinite: products of two stay below the largest float32.
constexpr double kLargestNorm = 1e18;
// Widens a double result by more than the rounding of the operations that gave it, the sums of up to 4,096
// squares included.
constexpr double kUp = 1 + 1e-11;

PYHUE_HOST_DEVICE inline bool is_huge(double squared_norm) { return !(squared_norm <= kLargestNorm * kLargestNorm); }

// Half of a vector's squared norm, rounded down. (1 - 2^-20): the rounding of the bound's own float32 operations.
PYHUE_HOST_DEVICE inline float half_norm_term(double squared_norm) {
  return is_huge(squared_norm) ? 0 : -round_up(-squared_norm / 2 * (1 - 0x1p-20));
}

PYHUE_HOST_DEVICE inline float norm_term(double squared_norm) {
  return is_huge(squared_norm) ? std::numeric_limits<float>::infinity() : round_up(std::sqrt(squared_norm) * kUp);
}

PYHUE_HOST_DEVICE inline float error_term(double squared_error) { return round_up(std::sqrt(squared_error) * kUp); }

// What multiplies a vector's norm in the bound. `rounding` is that of the dot product and of the bound's own
// operations, relative to |z_q| |z_x|; `omitted` the norm of the coordinates that were not read.
PYHUE_HOST_DEVICE inline float norm_factor(double squared_norm, double squared_error, double rounding, double omitted) {
  return round_up(std::sqrt(squared_error) * kUp + omitted + rounding * std::sqrt(squared_norm) * kUp);
}

// What the computed distance of a vector is at most whose <z_q, z_x> - |z_x|^2 / 2 is at least `score`.
PYHUE_HOST_DEVICE inline float farthest_distance(double squared_norm, double score, int dim) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const double exact = squared_norm - 2 * score, rounding = 1e-12 * (squared_norm + 2 * (score < 0 ? -score : score));
  // The reverse of what screening_threshold says.
  const double distance = (exact + rounding) * (1 + (dim / 16.0 + 16) * 0x1p-24) + dim * 1e-37;
  if (!(distance < kInfinity)) return kInfinity;
  return distance > 0 ? round_up(distance) : 0;
}

// The smallest value of a bound that a vector of computed distance <= `distance` can have.
PYHUE_HOST_DEVICE inline float screening_threshold(double squared_norm, float distance, int dim) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (distance == kInfinity) return -kInfinity;
  // The computed distance is at least (1 - (dim / 32 + 8) 2^-24) of the exact one, less what underflowed.
  const double farthest = (distance + dim * 1e-37) * (1 + (dim / 16.0 + 16) * 0x1p-24);
  const double threshold = (squared_norm - farthest) / 2;
  const double rounding = 1e-12 * (squared_norm + farthest) + dim * 1e-37;
  return static_cast<float>(threshold - rounding - 0x1p-23 * (threshold < 0 ? -threshold : threshold));
}

}  // namespace pyhue
