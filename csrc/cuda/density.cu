#include "cuda/density.h"
#include "cuda/density_kernels.h"

namespace pyhue::cuda {
namespace {

// A warp for each pixel: exponent -D_ij / (min_j D_ij + eps) of each neighbour.
template <class Distance>
__global__ void __launch_bounds__(kThreads)
    exponents_of_pixels(const Distance* distances, const int64_t* labels, int64_t pixels, int64_t k, double eps,
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
    exponents[pixel * k + j] = density_exponent(distances[pixel * k + j], nearest, eps);
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_classes(const double* exponents, const int64_t* labels, const int64_t* class_counts, bool counts_of_images,
                int64_t images, int64_t neighbors, int64_t classes, double* log_likelihood) {
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
  log_likelihood[i] = bad ? std::numeric_limits<double>::quiet_NaN()
                      : largest == -kInfinity
                          ? largest
                          : largest + (log(sum) - log(static_cast<double>(class_counts[counts_of_images ? i : c])));
}

dim3 blocks_of(int64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

void find_all_rows(const FoundNeighbors& found, const void** rows, cudaStream_t stream) {
  const int64_t count = found.images * found.pixels * found.k;
  int64_t first = 0;
  for (int i = 0; i < found.piece_count; ++i) {
    launch(find_rows, blocks_of(count), dim3(kThreads), 0, stream, found.indices, count, found.pieces[i], first,
           static_cast<int64_t>(found.dim) * (found.bfloat16 ? 2 : 4), rows);
    first += found.pieces[i].size;
  }
}

}  // namespace

template <class Distance>
void density(const Distance* distances, const int64_t* labels, const int64_t* class_counts, bool counts_of_images,
             int64_t images, int64_t pixels, int64_t k, int64_t classes, double eps, double* exponents,
             double* log_likelihood, cudaStream_t stream) {
  if (images * pixels * k > 0) {
    launch(exponents_of_pixels<Distance>, blocks_of(images * pixels * 32), dim3(kThreads), 0, stream, distances, labels,
           images * pixels, k, eps, exponents);
  }
  if (images * classes == 0) return;
  launch(sum_classes, blocks_of(images * classes), dim3(kThreads), 0, stream, static_cast<const double*>(exponents),
         labels, class_counts, counts_of_images, images, pixels * k, classes, log_likelihood);
}

template void density(const float*, const int64_t*, const int64_t*, bool, int64_t, int64_t, int64_t, int64_t, double,
                      double*, double*, cudaStream_t);
template void density(const double*, const int64_t*, const int64_t*, bool, int64_t, int64_t, int64_t, int64_t, double,
                      double*, double*, cudaStream_t);

void density_distances(const FoundNeighbors& found, const double* activations, const void** rows, double* distances,
                       cudaStream_t stream) {
  const int64_t pixels = found.images * found.pixels;
  if (pixels * found.k == 0) return;
  find_all_rows(found, rows, stream);
  launch(distances_of_pixels, dim3(static_cast<unsigned>(pixels)), dim3(kThreads), 0, stream, found, activations,
         static_cast<const void* const*>(rows), distances);
}

template <class Value>
void density_backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments,
                      const DensityScratch& scratch, cudaStream_t stream) {
  const int64_t pixels = found.images * found.pixels;
  if (pixels * found.k == 0) return;
  find_all_rows(found, scratch.rows, stream);
  launch(pulls_of_pixels<Value>, blocks_of(32 * pixels), dim3(kThreads), 0, stream, found, arguments, scratch.pulls);
  launch(gradients_of_pixels<Value>, dim3(static_cast<unsigned>(pixels)), dim3(kThreads), 0, stream, found, arguments,
         static_cast<const void* const*>(scratch.rows), static_cast<const double*>(scratch.pulls));
}

template void density_backward(const FoundNeighbors&, const DensityGradient<float>&, const DensityScratch&,
                               cudaStream_t);
template void density_backward(const FoundNeighbors&, const DensityGradient<double>&, const DensityScratch&,
                               cudaStream_t);

}  // namespace pyhue::cuda
