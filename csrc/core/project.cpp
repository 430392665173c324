#include "core/project.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

constexpr int64_t kRows = 16 * kProjectVectors;  // vectors that go through a panel together: both stay in the cache

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

bool Projection::project(const float* vectors, int64_t n, double* values, double* squared_norms,
                         const Executor& executor) const {
  const int64_t dim = this->dim(), groups = (n + kRows - 1) / kRows;
  std::vector<float> centered(static_cast<size_t>(panels_.empty() ? 0 : n * dim));
  std::vector<double> scales(static_cast<size_t>(n));
  const bool finished = for_each_chunk(executor, groups, [&](int64_t group, int) {
    for (int64_t row = group * kRows; row < std::min(n, (group + 1) * kRows); ++row) {
      const float* x = vectors + row * dim;
      double square = 0, largest = 0;
      for (int64_t k = 0; k < dim; ++k) {
        const double value = x[k] - center_[static_cast<size_t>(k)];
        square += value * value;
        largest = std::max(largest, std::fabs(value));
      }
      squared_norms[row] = square;
      if (panels_.empty()) {
        for (int64_t k = 0; k < dim; ++k) values[row * dim + k] = x[k] - center_[static_cast<size_t>(k)];
        continue;
      }
      // By a power of two, so that neither overflows nor underflows matter.
      const int exponent = largest > 0 ? std::ilogb(largest) + 1 : 0;
      const double down = std::ldexp(1.0, -exponent);
      scales[static_cast<size_t>(row)] = std::ldexp(1.0, exponent);
      for (int64_t k = 0; k < dim; ++k) {
        centered[static_cast<size_t>(row * dim + k)] =
            static_cast<float>((x[k] - center_[static_cast<size_t>(k)]) * down);
      }
    }
  });
  if (!finished || panels_.empty()) return finished;
  const ProjectTile tile = alike_ ? kernels().project_tile_alike : kernels().project_tile;
  const int64_t panels = (dims_ + kPanel - 1) / kPanel;
  return for_each_chunk(executor, groups * panels, [&](int64_t item, int) {
    const int64_t first = item / panels * kRows, panel = item % panels, last = std::min(n, first + kRows);
    const int64_t columns = std::min<int64_t>(kPanel, dims_ - panel * kPanel);
    for (int64_t row = first; row < last; row += kProjectVectors) {
      const float* rows[kProjectVectors];
      float dots[kProjectVectors][kPanel];
      for (int64_t a = 0; a < kProjectVectors; ++a) rows[a] = centered.data() + std::min(last - 1, row + a) * dim;
      tile(rows, panels_.data() + panel * dim * kPanel, dim, dots);
      for (int64_t a = 0; a < std::min<int64_t>(kProjectVectors, last - row); ++a) {
        double* to = values + (row + a) * dims_ + panel * kPanel;
        for (int64_t j = 0; j < columns; ++j) to[j] = dots[a][j] * scales[static_cast<size_t>(row + a)];
      }
    }
  });
}

}  // namespace pyhue
