#include "core/project.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

constexpr int64_t kPlainCost = 64;  // products that take as long as a coordinate without a rotation; measured

// The error of a projected vector, relative to its norm: z = R x + e with |e| <= projection_error |x|. Of each sum of
// products x_i r_i, all rounding is at most gamma_m sum |x_i r_i|, m the roundings that a product goes through: those
// of its own sum, two a term where there is no fused multiply-add, those of the sums' sum, and that of x - centre.
// Cauchy-Schwarz over the rows gives |R| in the Frobenius norm, up to the root of (1 + error) dims.
double projection_error(int64_t dims, int64_t dim, double error) {
  const double roundings = 2.0 * kProjectTerms + static_cast<double>(dim) / kProjectTerms + 4;
  return roundings * 0x1p-24 * 1.001 * std::sqrt(static_cast<double>(dims) * (1 + error));
}

}  // namespace

Projection::Projection(const double* center, const float* rotation, int64_t rows, int64_t dim, double error, bool alike)
    : center_(center, center + dim), dims_(rotation ? rows : dim), error_(error), alike_(alike) {
  if (!rotation) return;
  panels_.resize(static_cast<size_t>((rows + kPanel - 1) / kPanel * dim * kPanel));
  for (int64_t row = 0; row < rows; ++row) {
    float* column = panels_.data() + row / kPanel * dim * kPanel + row % kPanel;
    for (int64_t k = 0; k < dim; ++k) column[k * kPanel] = rotation[row * dim + k];
  }
  // With |R z| <= (1 + error) |z|: of two vectors' dot product, and of twice a norm's own.
  const double rounding = projection_error(rows, dim, error);
  error_ += 2 * rounding * (1 + error) + 4 * rounding * rounding;
}

double Projection::center(const float* x, double* values, double& squared_norm, float* to) const {
  double largest;
  squared_norm = kernels().center(x, center_.data(), dim(), values, &largest);
  const int exponent = largest > 0 ? std::ilogb(largest) + 1 : 0;
  kernels().narrow(values, std::ldexp(1.0, -exponent), dim(), to);
  return std::ldexp(1.0, exponent);
}

void Projection::multiply(const float* centered, int64_t count, int64_t panel, float* dots, int64_t stride) const {
  const ProjectTile tile = alike_ ? kernels().project_tile_alike : kernels().project_tile;
  const int64_t columns = std::min<int64_t>(kPanel, dims_ - panel * kPanel);
  for (int64_t row = 0; row < count; row += kProjectVectors) {
    const float* rows[kProjectVectors];
    float found[kProjectVectors][kPanel];
    for (int64_t a = 0; a < kProjectVectors; ++a) rows[a] = centered + std::min(count - 1, row + a) * dim();
    tile(rows, panels_.data() + panel * dim() * kPanel, dim(), found);
    for (int64_t a = 0; a < std::min<int64_t>(kProjectVectors, count - row); ++a) {
      std::copy(found[a], found[a] + columns, dots + (row + a) * stride);
    }
  }
}

bool Projection::project(const float* vectors, int64_t n, double* values, double* squared_norms,
                         Executor executor) const {
  const int64_t dim = this->dim(), groups = (n + Some::kMost - 1) / Some::kMost;
  if (n * dim * (panels_.empty() ? kPlainCost : dims_) < executor.least_products) executor.workers = 1;
  std::vector<float> centered(static_cast<size_t>(panels_.empty() ? 0 : n * dim));
  std::vector<double> scales(static_cast<size_t>(n));
  const auto last = [&](int64_t group) { return std::min(n, (group + 1) * Some::kMost); };
  const bool finished = for_each_chunk(executor, groups, [&](int64_t group, int) {
    std::vector<double> scratch(static_cast<size_t>(dim));
    for (int64_t row = group * Some::kMost; row < last(group); ++row) {
      if (panels_.empty()) {
        double largest;
        squared_norms[row] = kernels().center(vectors + row * dim, center_.data(), dim, values + row * dim, &largest);
      } else {
        scales[static_cast<size_t>(row)] =
            center(vectors + row * dim, scratch.data(), squared_norms[row], centered.data() + row * dim);
      }
    }
  });
  if (!finished || panels_.empty()) return finished;
  return for_each_chunk(executor, groups * panels(), [&](int64_t item, int) {
    const int64_t first = item / panels() * Some::kMost, panel = item % panels(), count = last(item / panels()) - first;
    float dots[Some::kMost * kPanel];
    multiply(centered.data() + first * dim, count, panel, dots, kPanel);
    for (int64_t i = 0; i < count; ++i) {
      double* to = values + (first + i) * dims_ + panel * kPanel;
      for (int64_t j = 0; j < std::min<int64_t>(kPanel, dims_ - panel * kPanel); ++j) {
        to[j] = dots[i * kPanel + j] * scales[static_cast<size_t>(first + i)];
      }
    }
  });
}

Projection::Some::Some(const Projection& projection)
    : projection_(projection),
      values_(static_cast<size_t>(std::max(projection.dim(), projection.dims_))),
      squared_norms_(kMost),
      scales_(kMost) {
  if (projection.panels_.empty()) return;
  centered_.resize(static_cast<size_t>(kMost * projection.dim()));
  dots_.resize(static_cast<size_t>(kMost * projection.dims_));
}

void Projection::Some::add(const float* vector) {
  const int64_t dim = projection_.dim(), place = count_++;
  double& squared_norm = squared_norms_[static_cast<size_t>(place)];
  if (centered_.empty()) {
    double largest;
    squared_norm = kernels().center(vector, projection_.center_.data(), dim, values_.data(), &largest);
  } else {
    scales_[static_cast<size_t>(place)] =
        projection_.center(vector, values_.data(), squared_norm, centered_.data() + place * dim);
  }
}

void Projection::Some::finish() {
  if (centered_.empty() || count_ == 0) return;
  for (int64_t panel = 0; panel < projection_.panels(); ++panel) {
    projection_.multiply(centered_.data(), count_, panel, dots_.data() + panel * kPanel, projection_.dims_);
  }
}

const double* Projection::Some::values(int64_t place) {
  if (centered_.empty()) return values_.data();
  const float* dots = dots_.data() + place * projection_.dims_;
  const double scale = scales_[static_cast<size_t>(place)];
  std::transform(dots, dots + projection_.dims_, values_.begin(), [scale](float dot) { return dot * scale; });
  return values_.data();
}

}  // namespace pyhue
