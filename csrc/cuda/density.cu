#include <cmath>
#include <limits>

#include "cuda/density.h"
#include "cuda/device.h"

namespace pyhue::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A warp for each pixel: exponent -D_ij / (min_j D_ij + eps) of each neighbour.
__global__ void __launch_bounds__(kThreads)
    exponents_of_pixels(const float* distances, const int64_t* labels, int64_t pixels, int64_t k, double eps,
                        double* exponents) {
  const int64_t pixel = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (pixel >= pixels) return;
  double nearest = kInfinity;
  for (int64_t j = lane; j < k; j += 32) {
    if (labels[pixel * k + j] >= 0) nearest = fmin(nearest, static_cast<double>(distances[pixel * k + j]));
  }
  for (int mask = 16; mask > 0; mask /= 2) nearest = fmin(nearest, __shfl_xor_sync(kFullMask, nearest, mask));
  for (int64_t j = lane; j < k; j += 32) {
    // However far, a neighbour counts for something; where all distances overflowed, they count as equal.
    const double distance = distances[pixel * k + j], exponent = -distance / (nearest + eps);
    exponents[pixel * k + j] = distance != distance   ? distance
                               : nearest == kInfinity ? -1.0
                                                      : fmax(exponent, std::numeric_limits<double>::lowest());
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_classes(const double* exponents, const int64_t* labels, const int64_t* class_counts, int64_t images,
                int64_t neighbors, int64_t classes, double* log_likelihood) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= images * classes) return;
  const int64_t image = i / classes, c = i % classes;
  const double* exponent = exponents + image * neighbors;
  const int64_t* label = labels + image * neighbors;
  double largest = -kInfinity, sum = 0;
  bool bad = false;
  for (int64_t j = 0; j < neighbors; ++j) {
    bad = bad || exponent[j] != exponent[j];
    if (label[j] == c && exponent[j] > largest) largest = exponent[j];
  }
  for (int64_t j = 0; j < neighbors; ++j) {
    if (label[j] == c) sum += exp(exponent[j] - largest);
  }
  log_likelihood[i] = bad                     ? std::numeric_limits<double>::quiet_NaN()
                      : largest == -kInfinity ? largest
                                              : largest + (log(sum) - log(static_cast<double>(class_counts[c])));
}

}  // namespace

void density(const float* distances, const int64_t* labels, const int64_t* class_counts, int64_t images, int64_t pixels,
             int64_t k, int64_t classes, double eps, double* exponents, double* log_likelihood, cudaStream_t stream) {
  const auto blocks = [](int64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); };
  if (images * pixels * k > 0) {
    launch(exponents_of_pixels, blocks(images * pixels * 32), dim3(kThreads), 0, stream, distances, labels,
           images * pixels, k, eps, exponents);
  }
  if (images * classes == 0) return;
  launch(sum_classes, blocks(images * classes), dim3(kThreads), 0, stream, static_cast<const double*>(exponents),
         labels, class_counts, images, pixels * k, classes, log_likelihood);
}

}  // namespace pyhue::cuda
