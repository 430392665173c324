#include "core/project.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

constexpr int64_t kPlainCost = 64;  // products that take as long as a coordinate without a rotation; measured

// What rounding to one part may change a vector by, relative to its norm.
constexpr double kRounding = 0x1p-12;
// How much finer the second part is. The first leaves half of one each: of a run at most half of the root of
// kProjectTerms, of which so many times fit kRunNorm.
constexpr double kFiner = 8000;

// The largest factor with which values fit 16 bits, and their runs kRunNorm, when they are rounded.
double factor_for(double largest, double largest_run) {
  const double rounding = 0.5 * std::sqrt(double{kProjectTerms});
  return largest > 0 ? std::min(32766.5 / largest, (kRunNorm - rounding - 1) / std::sqrt(largest_run)) : 0;
}

}  // namespace

Projection::Projection(const double* center, const double* rotation, int64_t rows, int64_t dim, double stretch)
    : center_(center, center + dim), dims_(rotation ? rows : dim), stretch_(stretch) {
  if (!rotation) return;
  panels_.resize(static_cast<size_t>(panels() * pairs() * kPanel * 2));
  std::vector<int16_t> integers(static_cast<size_t>(dim));
  for (int64_t row = 0; row < rows; ++row) {
    const double* values = rotation + row * dim;
    double largest = 0, largest_run = 0, run = 0;
    for (int64_t k = 0; k < dim; ++k) {
      run = values[k] * values[k] + (k % kProjectTerms ? run : 0);
      largest = std::max(largest, std::abs(values[k]));
      largest_run = std::max(largest_run, run);
    }
    const double factor = factor_for(largest, largest_run);
    kernels().quantize(values, factor, dim, integers.data());
    row_scales_.push_back(factor > 0 ? 1 / factor / stretch : 0);
    int16_t* pair = panels_.data() + (row / kPanel * pairs() * kPanel + row % kPanel) * 2;
    for (int64_t k = 0; k < dim; ++k) pair[k / 2 * kPanel * 2 + k % 2] = integers[static_cast<size_t>(k)];
  }
}

std::vector<double> Projection::rotation() const {
  std::vector<double> found;
  if (panels_.empty()) return found;
  for (int64_t row = 0; row < dims_; ++row) {
    const int16_t* pair = panels_.data() + (row / kPanel * pairs() * kPanel + row % kPanel) * 2;
    const double scale = row_scales_[static_cast<size_t>(row)] * stretch_;
    for (int64_t k = 0; k < dim(); ++k) found.push_back(pair[k / 2 * kPanel * 2 + k % 2] * scale);
  }
  return found;
}

// With x' = x - e the vector that is projected, and coordinates R x' + f: <x, y> is <x', y> + <e, y>, and <R x', R y>
// that of the coordinates up to |f| times the other one's length, both ways. So is |R x'|^2 up to 2 |f| |x'|. What is
// relative to both lengths goes into both tails: sqrt(a) sqrt(b) + c |x| |y| <= sqrt(a + c |x|^2) sqrt(b + c |y|^2).
// Of queries, in two parts, e counts as f does; of stored vectors, kRounding is all of it, or two parts again.
double Projection::error() const {
  if (panels_.empty()) return 0;
  // A vector in two parts is off by half of one in each coordinate; its norm is at least the largest value's.
  const double of_two_parts = std::sqrt(static_cast<double>(dim())) * 0.5 / (32766 * kFiner);
  // The sum of a run becomes a float32, which is added up with the others; lengths of runs add up to at most the root
  // of their number.
  const double runs = static_cast<double>((dim() + kProjectTerms - 1) / kProjectTerms);
  const double of_sums = (runs + 1) * 0x1p-24 * std::sqrt(runs);
  return 1.001 * kRounding + 8 * (of_two_parts + 2 * of_sums);
}

void Projection::multiply(const int16_t* parts, int64_t count, int64_t panel, float* dots, int64_t stride) const {
  const int64_t columns = std::min<int64_t>(kPanel, dims_ - panel * kPanel);
  for (int64_t part = 0; part < count; part += kProjectVectors) {
    const int16_t* some[kProjectVectors];
    float found[kProjectVectors][kPanel];
    for (int64_t a = 0; a < kProjectVectors; ++a) some[a] = parts + std::min(count - 1, part + a) * 2 * pairs();
    kernels().project_tile(some, panels_.data() + panel * pairs() * kPanel * 2, pairs(), found);
    for (int64_t a = 0; a < std::min<int64_t>(kProjectVectors, count - part); ++a) {
      std::copy(found[a], found[a] + columns, dots + (part + a) * stride);
    }
  }
}

double Projection::first_part(const double* values, const Centered& sizes, int16_t* part, double& scale) const {
  const double factor = factor_for(sizes.largest, sizes.largest_run);
  scale = factor > 0 ? 1 / factor : 0;
  return kernels().quantize(values, factor, dim(), part) * scale * scale;
}

void Projection::second_part(double* values, double scale, int16_t* part) const {
  const int16_t* first = part - 2 * pairs();
  for (int64_t k = 0; k < dim(); ++k) values[k] -= first[k] * scale;
  kernels().quantize(values, scale > 0 ? kFiner / scale : 0, dim(), part);
}

bool Projection::project(const float* vectors, int64_t n, double* values, double* squared_norms,
                         Executor executor) const {
  constexpr int64_t kGroup = Some::kMost / 2;  // vectors, of two parts each
  const int64_t dim = this->dim(), groups = (n + kGroup - 1) / kGroup;
  if (n * dim * (panels_.empty() ? kPlainCost : dims_) < executor.least_products) executor.workers = 1;
  std::vector<int16_t> parts(static_cast<size_t>(panels_.empty() ? 0 : n * 4 * pairs()));
  std::vector<double> scales(static_cast<size_t>(n));
  const auto last = [&](int64_t group) { return std::min(n, (group + 1) * kGroup); };
  const bool finished = for_each_chunk(executor, groups, [&](int64_t group, int) {
    std::vector<double> scratch(static_cast<size_t>(dim));
    for (int64_t row = group * kGroup; row < last(group); ++row) {
      double* to = panels_.empty() ? values + row * dim : scratch.data();
      const Centered sizes = kernels().center(vectors + row * dim, center_.data(), dim, to);
      squared_norms[row] = sizes.squared_norm;
      if (panels_.empty()) continue;
      int16_t* part = parts.data() + row * 4 * pairs();
      first_part(to, sizes, part, scales[static_cast<size_t>(row)]);
      second_part(to, scales[static_cast<size_t>(row)], part + 2 * pairs());
    }
  });
  if (!finished || panels_.empty()) return finished;
  return for_each_chunk(executor, groups * panels(), [&](int64_t item, int) {
    const int64_t first = item / panels() * kGroup, panel = item % panels(), count = last(item / panels()) - first;
    float dots[2 * kGroup * kPanel];
    multiply(parts.data() + first * 4 * pairs(), 2 * count, panel, dots, kPanel);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < std::min<int64_t>(kPanel, dims_ - panel * kPanel); ++j) {
        const double coarse = dots[2 * i * kPanel + j], fine = dots[(2 * i + 1) * kPanel + j];
        values[(first + i) * dims_ + panel * kPanel + j] = (coarse + fine / kFiner) *
                                                           scales[static_cast<size_t>(first + i)] *
                                                           row_scales_[static_cast<size_t>(panel * kPanel + j)];
      }
    }
  });
}

Projection::Some::Some(const Projection& projection)
    : projection_(projection), values_(static_cast<size_t>(std::max(projection.dim(), projection.dims_))) {
  if (projection.panels_.empty()) return;
  parts_.resize(static_cast<size_t>(2 * kMost * 2 * projection.pairs()));
  dots_.resize(static_cast<size_t>(2 * kMost * projection.dims_));
}

void Projection::Some::begin() {
  vectors_.clear();
  part_count_ = 0;
}

void Projection::Some::add(const float* vector) {
  const Centered sizes = kernels().center(vector, projection_.center_.data(), projection_.dim(), values_.data());
  Vector found = {part_count_, 1, 0, sizes.squared_norm, sizes.squared_norm};
  if (!parts_.empty()) {
    int16_t* part = parts_.data() + part_count_ * 2 * projection_.pairs();
    const double length = projection_.first_part(values_.data(), sizes, part, found.scale);
    const double most = 0.5 * std::sqrt(static_cast<double>(projection_.dim())) * found.scale;  // that it is off
    if (most <= kRounding * std::sqrt(sizes.squared_norm)) {
      found.squared_length = length;
    } else {
      projection_.second_part(values_.data(), found.scale, part + 2 * projection_.pairs());
      found.parts = 2;
    }
    part_count_ += found.parts;
  }
  vectors_.push_back(found);
}

void Projection::Some::finish() {
  if (part_count_ == 0) return;
  for (int64_t panel = 0; panel < projection_.panels(); ++panel) {
    projection_.multiply(parts_.data(), part_count_, panel, dots_.data() + panel * kPanel, projection_.dims_);
  }
}

const double* Projection::Some::values(int64_t place) {
  if (parts_.empty()) return values_.data();
  const Vector& vector = vectors_[static_cast<size_t>(place)];
  const int64_t dims = projection_.dims_;
  const float *coarse = dots_.data() + vector.first_part * dims, *fine = coarse + dims;
  const double scale = vector.scale;
  const double* row_scales = projection_.row_scales_.data();
  for (int64_t j = 0; j < dims; ++j) {
    const double dot = vector.parts == 1 ? coarse[j] : coarse[j] + fine[j] / kFiner;
    values_[static_cast<size_t>(j)] = dot * scale * row_scales[j];
  }
  return values_.data();
}

}  // namespace pyhue
