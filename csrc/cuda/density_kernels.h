// The kernels of the density's gradient. Included by density.cu only.
#pragma once

#include <cmath>
#include <limits>

#include "core/density_terms.h"
#include "cuda/density.h"
#include "cuda/device.h"

namespace pyhue::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChannels = 16;  // of a thread: kThreads times as many is the most that a vector has
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The sum, or the largest, over the block, in a fixed order; every thread gets it.
template <class Combine>
__device__ inline double reduce_block(double value, Combine combine) {
  __shared__ double of_warps[kThreads / 32];
  for (int mask = 16; mask > 0; mask /= 2) value = combine(value, __shfl_xor_sync(kFullMask, value, mask));
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warps[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) value = combine(value, of_warps[warp]);
  __syncthreads();  // the next reduction writes there
  return value;
}
__device__ inline double sum_block(double value) {
  return reduce_block(value, [](double a, double b) { return a + b; });
}

// A stored channel; a bfloat16 is the upper half of a float32.
__device__ inline double channel(const void* row, int t, bool bfloat16) {
  if (!bfloat16) return static_cast<const float*>(row)[t];
  union {
    uint32_t bits;
    float value;
  } wide{static_cast<uint32_t>(static_cast<const uint16_t*>(row)[t]) << 16};
  return wide.value;
}

// A thread for each neighbour: where its vector lies if it is one of this piece's, whose first is row `first`.
__global__ void __launch_bounds__(kThreads) find_rows(const int64_t* indices, int64_t count, StoredPiece piece,
                                                      int64_t first, int64_t row_bytes, const void** rows) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t row = indices[i] - first;
  if (row >= 0 && row < piece.size) {
    rows[i] = static_cast<const char*>(piece.vectors) + row * row_bytes;
  } else if (first == 0) {
    rows[i] = nullptr;
  }
}

// A thread's channels of the vector that is compared.
struct Query {
  double channels[kChannels];
  double scale, norm;  // of the row, whose length is their product; 1 where it is compared as it is
};

template <class Value>
__device__ inline Query query_of(const Value* row, int dim, bool normalize) {
  Query query{{}, 1, 1};
  double largest = 0;
#pragma unroll
  for (int r = 0; r < kChannels; ++r) {
    const int t = r * kThreads + static_cast<int>(threadIdx.x);
    if (t >= dim) break;
    query.channels[r] = row[t];
    largest = fmax(largest, fabs(query.channels[r]));
  }
  if (!normalize) return query;
  if (sizeof(Value) == 8) {
    largest = reduce_block(largest, [](double a, double b) { return fmax(a, b); });
    if (largest > 0) query.scale = largest;
  }
  double squares = 0;
#pragma unroll
  for (int r = 0; r < kChannels; ++r) {
    query.channels[r] /= query.scale;
    squares += query.channels[r] * query.channels[r];
  }
  query.norm = sqrt(sum_block(squares));
#pragma unroll
  for (int r = 0; r < kChannels; ++r) query.channels[r] = query.norm == 0 ? 0 : query.channels[r] / query.norm;
  return query;
}

// A block for each pixel.
__global__ void __launch_bounds__(kThreads)
    distances_of_pixels(FoundNeighbors found, const double* activations, const void* const* rows, double* distances) {
  const int64_t pixel = blockIdx.x;
  const Query query = query_of(activations + pixel * found.dim, found.dim, found.normalize);
  for (int64_t j = pixel * found.k; j < (pixel + 1) * found.k; ++j) {
    double sum = 0;
#pragma unroll
    for (int r = 0; r < kChannels; ++r) {
      const int t = r * kThreads + static_cast<int>(threadIdx.x);
      if (t >= found.dim) break;
      const double difference = query.channels[r] - (rows[j] ? channel(rows[j], t, found.bfloat16) : 0);
      sum += difference * difference;
    }
    sum = sum_block(sum);
    if (threadIdx.x == 0) distances[j] = rows[j] || sum != sum ? sum : kInfinity;
  }
}

// A warp for each pixel: dL/dD of each neighbour; 0 of one that does not count.
template <class Value>
__global__ void __launch_bounds__(kThreads)
    pulls_of_pixels(FoundNeighbors found, DensityGradient<Value> arguments, double* pulls) {
  const int64_t pixel = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32, k = found.k;
  if (pixel >= found.images * found.pixels) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Value* distances = arguments.distances + pixel * k;
  const int64_t* labels = arguments.labels + pixel * k;
  const int64_t row = pixel / found.pixels * arguments.classes;
  double nearest = kInfinity;
  int64_t m = k;
  for (int64_t j = lane; j < k; j += 32) {
    if (labels[j] >= 0 && (m == k || distances[j] < nearest)) nearest = distances[j], m = j;
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    const double other = __shfl_xor_sync(kFullMask, nearest, mask);
    const int64_t its_m = __shfl_xor_sync(kFullMask, m, mask);
    if (its_m < k && (m == k || other < nearest || (other == nearest && its_m < m))) nearest = other, m = its_m;
  }
  double nearest_pull = 0;
  for (int64_t j = lane; j < k; j += 32) {
    const int64_t c = labels[j];
    const double exponent = density_exponent(distances[j], nearest, arguments.eps);
    double pull = 0;
    if (c >= 0 && arguments.gradient[row + c] != 0 && density_term_moves(exponent, nearest)) {
      const double log_sum = arguments.log_likelihood[row + c] + log(static_cast<double>(arguments.class_counts[c]));
      const double slope = arguments.gradient[row + c] * exp(exponent - log_sum);
      if (j == m) {
        nearest_pull += density_nearest_pull(slope, nearest, arguments.eps);
      } else {
        nearest_pull += density_bandwidth_pull(slope, exponent, nearest, arguments.eps);
        if (distances[j] > 0) pull = density_pull(slope, nearest, arguments.eps);  // or its difference is 0
      }
    }
    pulls[pixel * k + j] = pull;
  }
  for (int mask = 16; mask > 0; mask /= 2) nearest_pull += __shfl_xor_sync(kFullMask, nearest_pull, mask);
  if (m < k && m % 32 == lane && nearest > 0) pulls[pixel * k + m] = nearest_pull;
}

// A block for each pixel; its sums stay in registers over all neighbours.
template <class Value>
__global__ void __launch_bounds__(kThreads) gradients_of_pixels(FoundNeighbors found, DensityGradient<Value> arguments,
                                                                const void* const* rows, const double* pulls) {
  const int64_t pixel = blockIdx.x, k = found.k;
  const int dim = found.dim;
  const Query query = query_of(arguments.activations + pixel * dim, dim, found.normalize);
  double sums[kChannels] = {}, along = 0;
  for (int64_t j = pixel * k; j < (pixel + 1) * k; ++j) {
    const double pull = pulls[j];
    if (pull == 0) continue;
#pragma unroll
    for (int r = 0; r < kChannels; ++r) {
      const int t = r * kThreads + static_cast<int>(threadIdx.x);
      if (t >= dim) break;
      sums[r] += pull * (query.channels[r] - channel(rows[j], t, found.bfloat16));
    }
  }
  if (found.normalize) {
#pragma unroll
    for (int r = 0; r < kChannels; ++r) along += sums[r] * query.channels[r];
    along = sum_block(along);
  }
  Value* to = arguments.to + pixel * dim;
#pragma unroll
  for (int r = 0; r < kChannels; ++r) {
    const int t = r * kThreads + static_cast<int>(threadIdx.x);
    if (t >= dim) break;
    const double gradient = 2 * (sums[r] - along * query.channels[r]);
    to[t] = query.norm == 0 ? Value{0} : static_cast<Value>(gradient / query.scale / query.norm);
  }
}

}  // namespace
}  // namespace pyhue::cuda
