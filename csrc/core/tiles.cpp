#include "core/tiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/bound.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Relative to |z_q| |z_x|, what rounding changes of <u, v>: |u| |v| <= 4 |z_x| |z_q|, since rounding at most doubles a
// coordinate; the integer sum becomes a float32, is scaled, and goes through four more operations.
constexpr double kRounding = 0x1p-18;
// Relative to each of the other terms, what those operations change of it.
constexpr double kTermRounding = 1 + 0x1p-20;

// The least scale at which a query's products with the steps, rounded to multiples of it, are within the limits of a
// level.
double query_scale(const double* values, const Layout& layout, const Kernels& kernels) {
  double largest = 0, largest_sum = 0;
  for (int first = 0; first < layout.dims(); first += 2 * kSumCoordinates) {
    double sums[2] = {0, 0};
    for (int k = first; k < std::min(first + 2 * kSumCoordinates, layout.dims()); ++k) {
      const double size = std::fabs(values[k] * layout.steps[k]);
      largest = std::max(largest, size);
      sums[k / 2 % 2] += size;
    }
    largest_sum = std::max({largest_sum, sums[0], sums[1]});
  }
  const double rounding = 0.5 * kSumCoordinates;  // what it adds to a sum at most
  return std::max(largest / kernels.int8_limit, largest_sum / (kernels.sum_limit - rounding));
}

}  // namespace

Tiles::Tiles(const Queries& queries, int64_t first, int64_t count, const Layout& layout, const Kernels& kernels,
             const Executor& executor)
    : layout_(layout),
      count_(count),
      tile_queries_(kernels.tile_queries),
      order_(static_cast<size_t>(count)),
      bounds_(static_cast<size_t>(count)),
      block_factors_(static_cast<size_t>(count * layout.block_stages)),
      row_factors_(static_cast<size_t>(count * layout.row_stages)),
      values_(static_cast<size_t>(count * layout.padded_dims())) {
  std::iota(order_.begin(), order_.end(), first);
  const double largest = *std::max_element(layout.steps, layout.steps + layout.dims());
  for (int k = 0; k < layout.dims(); ++k) weights_.push_back(weight(layout.steps[k], largest));
  complete_ =
      for_each_chunk(executor, count, [&](int64_t place, int) { fill(queries, first + place, place, kernels); });
}

Tiles::Tiles(const Tiles& all, const std::vector<int64_t>& places)
    : layout_(all.layout_),
      count_(static_cast<int64_t>(places.size())),
      tile_queries_(all.tile_queries_),
      complete_(all.complete_),
      order_(places),
      bounds_(places.size()),
      block_factors_(places.size() * static_cast<size_t>(layout_.block_stages)),
      row_factors_(places.size() * static_cast<size_t>(layout_.row_stages)),
      values_(places.size() * static_cast<size_t>(layout_.padded_dims())) {
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t place = places[i];
    bounds_[i] = all.bounds_[static_cast<size_t>(place)];
    for (int b = 0; b < layout_.block_stages; ++b) {
      block_factors_[static_cast<size_t>(b) * places.size() + i] = all.block_factors()[b * all.count_ + place];
    }
    for (int r = 0; r < layout_.row_stages; ++r) {
      row_factors_[static_cast<size_t>(r) * places.size() + i] = all.row_factors()[r * all.count_ + place];
    }
    const int8_t* values = all.values(place);
    std::copy(values, values + layout_.padded_dims(),
              values_.begin() + static_cast<int64_t>(i) * layout_.padded_dims());
  }
}

void Tiles::fill(const Queries& queries, int64_t query, int64_t place, const Kernels& kernels) {
  const double squared_norm = queries.coordinates.squared_norms[query], eta = queries.coordinates.orthogonality_error;
  QueryBound& bound = bounds_[static_cast<size_t>(place)];
  const auto block_factors = [&](int stage) -> StageFactors& {
    return block_factors_[static_cast<size_t>(stage * count_ + place)];
  };
  const auto row_factors = [&](int stage) -> StageFactors& {
    return row_factors_[static_cast<size_t>(stage * count_ + place)];
  };
  bound = {0, -kInfinity};
  if (is_huge(squared_norm)) {
    for (int b = 0; b < layout_.block_stages; ++b) block_factors(b) = {kInfinity, 0, 0, 0};
    for (int r = 0; r < layout_.row_stages; ++r) row_factors(r) = {kInfinity, 0, 0, 0};
    return;
  }
  const double* values = queries.coordinates.values + query * layout_.dims();
  const float scale = round_up(query_scale(values, layout_, kernels));
  const bool none = !(scale > 0 && scale < kInfinity);  // nothing to be multiples of
  if (!none) bound.scale = scale;
  int8_t* bytes = values_.data() + place * layout_.padded_dims();
  double exact = 0, rounded = 0, error = 0;  // squared norms: as it is, rounded, and the weighted rounding error
  int32_t sum = 0;
  int k = 0;
  const auto factors_until = [&](int end) -> StageFactors {
    for (; k < end; ++k) {
      const double value = values[k], step = layout_.steps[k];
      const double units = none ? 0 : std::nearbyint(value * step / scale), back = units * scale / step;
      const double change = (value - back) / weights_[static_cast<size_t>(k)];
      bytes[k] = static_cast<int8_t>(units);
      sum += static_cast<int32_t>(units);
      exact += value * value;
      rounded += back * back;
      error += change * change;
    }
    // |z_x| is at most the sum of its weighted norm and its tail.
    const double rounding = (kRounding + eta) * (1 + eta) * std::sqrt(squared_norm) * kUp;
    return {round_up((std::sqrt(error) * kUp + rounding) * kTermRounding),
            round_up(std::sqrt(rounded) * kUp * kTermRounding),
            round_up((tail_norm(squared_norm, exact, eta) + rounding) * kTermRounding), kernels.byte_offset * sum};
  };
  for_each_stage(
      layout_, [&](int stage) { block_factors(stage) = factors_until(layout_.block_ends[stage]); },
      [&](int stage) { row_factors(stage) = factors_until(layout_.row_ends[stage]); });
}

}  // namespace pyhue
