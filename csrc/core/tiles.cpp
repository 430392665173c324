#include "core/tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/bound.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kStretch = 98;       // queries that are put in order together; measured
constexpr double kInteger = 0x1.8p52;  // added and taken away again, it rounds to the nearest integer, ties to even

// Relative to |z_q| |z_x|, what rounding changes of <u, v>: |u| |v| <= 4 |z_x| |z_q|, since rounding at most doubles a
// coordinate; the integer sum becomes a float32, is scaled, and goes through four more operations.
constexpr double kRounding = 0x1p-18;
// Relative to each of the other terms, what those operations change of it.
constexpr double kTermRounding = 1 + 0x1p-20;

// Two coordinates: what a register of every CPU holds.
typedef double Pair __attribute__((vector_size(16)));
constexpr int kPairs = 2;  // side by side

Pair load(const double* from) {
  Pair pair;
  std::memcpy(&pair, from, sizeof pair);
  return pair;
}

double sum(const Pair (&pairs)[kPairs]) { return (pairs[0][0] + pairs[1][0]) + (pairs[0][1] + pairs[1][1]); }

// The least scale at which a query's products with the steps, rounded to multiples of it, are within the limits of a
// level.
double query_scale(const double* values, const double* steps, int dims, const Kernels& kernels) {
  Pair largest = {}, largest_sum = {};
  const auto size_of = [&](int k) {
    const Pair product = load(values + k) * load(steps + k);
    return product < 0 ? -product : product;
  };
  const auto larger = [](Pair a, Pair b) { return a < b ? b : a; };
  for (int first = 0; first < dims; first += 2 * kSumCoordinates) {
    Pair sums[2] = {};  // of those that are 0 or 1 modulo 4, and of the others
    for (int k = first; k < std::min(first + 2 * kSumCoordinates, dims); k += 4) {
      const Pair sizes[2] = {size_of(k), size_of(k + 2)};
      largest = larger(largest, larger(sizes[0], sizes[1]));
      for (int i = 0; i < 2; ++i) sums[i] += sizes[i];
    }
    for (const Pair& two : sums) largest_sum = larger(largest_sum, Pair{two[0] + two[1], 0});
  }
  const double rounding = 0.5 * kSumCoordinates;  // what it adds to a sum at most
  return std::max(std::max(largest[0], largest[1]) / kernels.int8_limit,
                  largest_sum[0] / (kernels.sum_limit - rounding));
}

}  // namespace

Tiles::Tiles(const Queries& queries, int64_t first, int64_t count, const Layout& layout, const Kernels& kernels,
             const Executor& executor)
    : layout_(layout),
      steps_(static_cast<size_t>(layout.padded_dims())),
      inverse_steps_(steps_.size()),
      inverse_weights_(steps_.size()),
      count_(count),
      tile_queries_(kernels.tile_queries),
      order_(static_cast<size_t>(count)),
      bounds_(static_cast<size_t>(count)),
      block_factors_(static_cast<size_t>(count * layout.block_stages)),
      row_factors_(static_cast<size_t>(count * layout.row_stages)),
      values_(static_cast<size_t>(count * layout.padded_dims())) {
  std::iota(order_.begin(), order_.end(), first);
  if (queries.clusters_per_query > 0) {
    // Queries come in stretches that are alike, say of an image; in one, those of the same cluster are most alike.
    const auto cluster = [&](int64_t query) { return queries.clusters[query * queries.clusters_per_query]; };
    for (int64_t begin = 0; begin < count; begin += kStretch) {
      std::stable_sort(order_.begin() + begin, order_.begin() + std::min(count, begin + kStretch),
                       [&](int64_t a, int64_t b) { return cluster(a) < cluster(b); });
    }
  }
  const double largest = *std::max_element(layout.steps, layout.steps + layout.dims());
  for (int k = 0; k < layout.dims(); ++k) {
    at(steps_, k) = layout.steps[k];
    at(inverse_steps_, k) = 1 / layout.steps[k];
    at(inverse_weights_, k) = 1 / weight(layout.steps[k], largest);
  }
  complete_ = for_each_chunk(
      executor, count, [&](int64_t place, int) { fill(queries, order_[static_cast<size_t>(place)], place, kernels); });
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
  const double squared_norm = queries.coordinates.squared_norms[query], eta = queries.coordinates.error;
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
  std::vector<double> padded;
  if (layout_.dims() % (2 * kPairs)) {
    padded.assign(values, values + layout_.dims());
    padded.resize(steps_.size());
    values = padded.data();
  }
  const float scale = round_up(query_scale(values, steps_.data(), layout_.dims(), kernels));
  const bool none = !(scale > 0 && scale < kInfinity);  // nothing to be multiples of
  if (!none) bound.scale = scale;
  int8_t* bytes = values_.data() + place * layout_.padded_dims();
  const double units_of_one = none ? 0 : 1 / static_cast<double>(scale);
  // Squared norms: as it is, rounded, and the weighted rounding error; and the sum of the bytes.
  Pair exacts[kPairs] = {}, roundeds[kPairs] = {}, errors[kPairs] = {}, sums[kPairs] = {};
  int k = 0;
  const auto factors_until = [&](int end) -> StageFactors {
    for (; k < end; k += 2 * kPairs) {
      for (int i = 0; i < kPairs; ++i) {
        const int from = k + 2 * i;
        const Pair value = load(values + from);
        const Pair units = value * load(steps_.data() + from) * units_of_one + kInteger - kInteger;
        const Pair back = units * static_cast<double>(scale) * load(inverse_steps_.data() + from);
        const Pair change = (value - back) * load(inverse_weights_.data() + from);
        exacts[i] += value * value;
        roundeds[i] += back * back;
        errors[i] += change * change;
        sums[i] += units;
        for (int j = 0; j < 2; ++j) bytes[from + j] = static_cast<int8_t>(static_cast<int>(units[j]));
      }
    }
    const double exact = sum(exacts), rounded = sum(roundeds), error = sum(errors);
    // |z_x| is at most the sum of its weighted norm and its tail.
    const double rounding = kRounding * (1 + eta) * std::sqrt(squared_norm) * kUp;
    return {round_up((std::sqrt(error) * kUp + rounding) * kTermRounding),
            round_up(std::sqrt(rounded) * kUp * kTermRounding),
            round_up((tail_norm(squared_norm, exact, eta) + rounding) * kTermRounding),
            kernels.byte_offset * static_cast<int32_t>(sum(sums))};
  };
  for_each_stage(
      layout_, [&](int stage) { block_factors(stage) = factors_until(layout_.block_ends[stage]); },
      [&](int stage) { row_factors(stage) = factors_until(layout_.row_ends[stage]); });
}

}  // namespace pyhue
