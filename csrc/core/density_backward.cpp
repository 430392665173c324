#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/density.h"
#include "core/density_terms.h"
#include "core/isa.h"
#include "core/kernels.h"
#include "core/rows.h"

namespace pyhue {
namespace {

constexpr int64_t kPixels = 8;  // of a chunk

// What lasts for a chunk: the vector that is compared, and a pixel's neighbours that are there.
struct Scratch {
  explicit Scratch(const FoundNeighbors& found)
      : query(static_cast<size_t>(found.dim)),
        sum(static_cast<size_t>(found.dim)),
        rows(static_cast<size_t>(found.k)),
        pulls(static_cast<size_t>(found.k)) {}

  std::vector<double> query, sum;
  std::vector<const void*> rows;
  std::vector<double> pulls;
};

const void* row_of(const FoundNeighbors& found, int64_t index) {
  const StoredPiece* piece = found.pieces;
  for (; index >= piece->size; ++piece) index -= piece->size;
  return static_cast<const char*>(piece->vectors) + index * found.dim * (found.bfloat16 ? 2 : 4);
}

// Calls body(pixel, scratch) for every pixel of every image.
template <class Body>
void for_each_pixel(const FoundNeighbors& found, const Executor& executor, Body body) {
  const int64_t count = found.images * found.pixels;
  for_each_chunk(executor, (count + kPixels - 1) / kPixels, [&](int64_t chunk, int) {
    Scratch scratch(found);
    for (int64_t i = chunk * kPixels; i < std::min(count, (chunk + 1) * kPixels); ++i) body(i, scratch);
  });
}

// The vector that is compared; returns the length of the row, 1 if it is compared as it is.
template <class Value>
Length query_of(const FoundNeighbors& found, const Value* row, double* query) {
  const Length length = found.normalize ? length_of(row, found.dim) : Length{1, 1};
  for (int t = 0; t < found.dim; ++t) query[t] = length.norm > 0 ? row[t] / length.scale / length.norm : 0;
  return length;
}

// The rows that pull on a pixel, and how much: dL/dD of each. Returns how many.
template <class Value>
int64_t pulls_of(const FoundNeighbors& found, const DensityGradient<Value>& arguments, int64_t pixel,
                 Scratch& scratch) {
  const int64_t k = found.k, classes = arguments.classes;
  const int64_t *indices = found.indices + pixel * k, *labels = arguments.labels + pixel * k;
  const Value* distances = arguments.distances + pixel * k;
  const double* log_likelihood = arguments.log_likelihood + pixel / found.pixels * classes;
  const double* gradient = arguments.gradient + pixel / found.pixels * classes;
  int64_t m = -1, count = 0;
  for (int64_t j = 0; j < k; ++j) {
    if (labels[j] >= 0 && (m < 0 || distances[j] < distances[m])) m = j;
  }
  if (m < 0) return 0;
  const double nearest = distances[m], eps = arguments.eps;
  double nearest_pull = 0;
  for (int64_t j = 0; j < k; ++j) {
    const int64_t c = labels[j];
    if (c < 0 || gradient[c] == 0) continue;
    const double exponent = density_exponent(distances[j], nearest, eps);
    if (!density_term_moves(exponent, nearest)) continue;
    const double log_sum = log_likelihood[c] + std::log(static_cast<double>(arguments.class_counts[c]));
    const double slope = gradient[c] * std::exp(exponent - log_sum);
    if (j == m) {
      nearest_pull += density_nearest_pull(slope, nearest, eps);
      continue;
    }
    nearest_pull += density_bandwidth_pull(slope, exponent, nearest, eps);
    if (distances[j] == 0) continue;  // its difference is 0
    scratch.rows[static_cast<size_t>(count)] = row_of(found, indices[j]);
    scratch.pulls[static_cast<size_t>(count++)] = density_pull(slope, nearest, eps);
  }
  if (nearest > 0) {
    scratch.rows[static_cast<size_t>(count)] = row_of(found, indices[m]);
    scratch.pulls[static_cast<size_t>(count++)] = nearest_pull;
  }
  return count;
}

}  // namespace

void density_distances(const FoundNeighbors& found, const double* activations, double* distances,
                       const Executor& executor) {
  const DensityDistanceKernel kernel = kernels().density_distance[found.bfloat16];
  for_each_pixel(found, executor, [&](int64_t pixel, Scratch& scratch) {
    query_of(found, activations + pixel * found.dim, scratch.query.data());
    for (int64_t j = pixel * found.k; j < (pixel + 1) * found.k; ++j) {
      const int64_t index = found.indices[j];
      distances[j] = index < 0 ? std::numeric_limits<double>::infinity()
                               : kernel(scratch.query.data(), found.dim, row_of(found, index));
    }
  });
}

template <class Value>
void density_backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments, const Executor& executor) {
  const DensityPullKernel kernel = kernels().density_pull[found.bfloat16];
  const int dim = found.dim;
  for_each_pixel(found, executor, [&](int64_t pixel, Scratch& scratch) {
    double *query = scratch.query.data(), *sum = scratch.sum.data();
    Value* to = arguments.to + pixel * dim;
    const int64_t count = pulls_of(found, arguments, pixel, scratch);
    const Length length = query_of(found, arguments.activations + pixel * dim, query);
    if (count == 0 || length.norm == 0) {
      std::fill(to, to + dim, Value{0});
      return;
    }
    kernel(query, dim, scratch.rows.data(), scratch.pulls.data(), count, sum);
    double along = 0;
    for (int t = 0; found.normalize && t < dim; ++t) along += sum[t] * query[t];
    for (int t = 0; t < dim; ++t) {
      to[t] = static_cast<Value>(2 * (sum[t] - along * query[t]) / length.scale / length.norm);
    }
  });
}

template void density_backward(const FoundNeighbors&, const DensityGradient<float>&, const Executor&);
template void density_backward(const FoundNeighbors&, const DensityGradient<double>&, const Executor&);

}  // namespace pyhue
