#include "core/density.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/density_terms.h"

namespace pyhue {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Calls visit(label, exponent) for every neighbour that is there.
template <class Distance, class Visit>
void for_each_neighbor(const Distance* distances, const int64_t* labels, int64_t pixels, int64_t k, double eps,
                       Visit visit) {
  for (int64_t i = 0; i < pixels; ++i, distances += k, labels += k) {
    double nearest = kInfinity;
    for (int64_t j = 0; j < k; ++j) {
      if (labels[j] >= 0) nearest = std::min<double>(nearest, distances[j]);
    }
    for (int64_t j = 0; j < k; ++j) {
      if (labels[j] >= 0) visit(labels[j], density_exponent(distances[j], nearest, eps));
    }
  }
}

}  // namespace

template <class Distance>
bool density(const Distance* distances, const int64_t* labels, const int64_t* class_counts, int64_t images,
             int64_t pixels, int64_t k, int64_t classes, double eps, double* log_likelihood, const Executor& executor) {
  return for_each_chunk(executor, images, [&](int64_t image, int) {
    const Distance* d = distances + image * pixels * k;
    const int64_t* l = labels + image * pixels * k;
    double* out = log_likelihood + image * classes;
    // The largest exponent of each class, then sums relative to it.
    std::vector<double> sums(static_cast<size_t>(classes));
    std::fill(out, out + classes, -kInfinity);
    for_each_neighbor(d, l, pixels, k, eps, [&](int64_t c, double e) { out[c] = std::max(out[c], e); });
    for_each_neighbor(d, l, pixels, k, eps, [&](int64_t c, double e) {
      if (out[c] != -kInfinity) sums[static_cast<size_t>(c)] += std::exp(e - out[c]);
    });
    for (int64_t c = 0; c < classes; ++c) {
      if (out[c] == -kInfinity) continue;
      out[c] += std::log(sums[static_cast<size_t>(c)]) - std::log(static_cast<double>(class_counts[c]));
    }
  });
}

template bool density(const float*, const int64_t*, const int64_t*, int64_t, int64_t, int64_t, int64_t, double, double*,
                      const Executor&);
template bool density(const double*, const int64_t*, const int64_t*, int64_t, int64_t, int64_t, int64_t, double,
                      double*, const Executor&);

}  // namespace pyhue
