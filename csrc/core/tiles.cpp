#include "core/tiles.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/bound.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Relative to |z_q| |z_x|: a kernel rounds each of `dims` products and sums at most twice (vdpbf16ps adds a
// pair in two steps), |error| <= 2 dims 2^-24 |u| |v| with |u| |v| <= 1.01 |z_x| |z_q|; and adding up a bound
// takes five more roundings of terms that sum to less than 5 |z_x| |z_q| + half_norm.
// Of bytes the sums are exact, but a rounded vector may be twice as long as it was, on both sides.
double rounding(int dims) { return 1.02 * std::ldexp(dims + 32.0, -23) + std::ldexp(1, -19); }

double rounding_of(const Layout& layout, int dims) { return (layout.steps ? 4 : 1) * rounding(dims); }

// The dimensions that a tile reads: dropped from the smallest on until a query's share is used up.
std::vector<int32_t> chosen_dims(const Queries& queries, const std::vector<int64_t>& order, const Tile& tile,
                                 const Layout& layout) {
  const int dims = layout.block_dims;
  std::vector<float> energy(static_cast<size_t>(dims), 0.0f);
  std::vector<double> budget;
  for (int q = 0; q < tile.size; ++q) {
    const int64_t query = order[static_cast<size_t>(tile.start + q)];
    const double squared_norm = queries.coordinates.squared_norms[query];
    const double* values = queries.coordinates.values + query * layout.dims();
    budget.push_back(is_huge(squared_norm) ? 0 : queries.omit * queries.omit * squared_norm);
    const double scale = squared_norm > 0 && !is_huge(squared_norm) ? 1 / squared_norm : 0;
    for (int k = 0; k < dims; ++k) {
      energy[static_cast<size_t>(k)] += static_cast<float>(values[k] * values[k] * scale);
    }
  }
  std::vector<int32_t> kept(static_cast<size_t>(dims));
  std::iota(kept.begin(), kept.end(), 0);
  std::stable_sort(kept.begin(), kept.end(), [&](int32_t a, int32_t b) {
    return energy[static_cast<size_t>(a)] < energy[static_cast<size_t>(b)];
  });
  int dropped = 0;
  for (bool fits = true; fits && dropped + 2 < dims; dropped += fits) {
    for (int q = 0; q < tile.size; ++q) {
      const int64_t query = order[static_cast<size_t>(tile.start + q)];
      const double value = queries.coordinates.values[query * layout.dims() + kept[static_cast<size_t>(dropped)]];
      budget[static_cast<size_t>(q)] -= value * value;
      fits = fits && budget[static_cast<size_t>(q)] >= 0;
    }
  }
  if ((dims - dropped) % 2 != 0) {
    if (dropped > 0) {
      --dropped;
    } else {
      kept.push_back(dims);  // the zeros that pad a block
    }
  }
  kept.erase(kept.begin(), kept.begin() + dropped);
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace

Tiles::Tiles(const Queries& queries, int64_t first, int64_t count, const Layout& layout, const Kernels& kernels,
             const Executor& executor)
    : layout_(layout),
      order_(static_cast<size_t>(count)),
      tiles_(static_cast<size_t>((count + kernels.tile_queries - 1) / kernels.tile_queries)),
      bounds_(static_cast<size_t>(count)),
      row_bounds_(static_cast<size_t>(count * kRowParts), QueryBound{kInfinity, 0, 0, 0}),
      bytes_(layout.steps ? static_cast<size_t>(count) : 0),
      rows_(static_cast<size_t>(count * layout.padded_row_dims())) {
  std::iota(order_.begin(), order_.end(), first);
  complete_ = for_each_chunk(executor, size(), [&](int64_t index, int) {
    Tile& tile = tiles_[static_cast<size_t>(index)];
    tile.start = index * kernels.tile_queries;
    tile.size = static_cast<int>(std::min<int64_t>(kernels.tile_queries, count - tile.start));
    if (layout_.steps) {
      fill_bytes(queries, kernels, tile);
    } else {
      fill(queries, kernels, tile);
    }
  });
}

void Tiles::fill(const Queries& queries, const Kernels& kernels, Tile& tile) {
  tile.dims = chosen_dims(queries, order_, tile, layout_);
  tile.count = static_cast<int>(tile.dims.size());
  tile.dims.resize(tile.dims.size() + kDimsAhead, tile.dims.back());
  const size_t count = static_cast<size_t>(tile.count), size = static_cast<size_t>(tile.size);
  tile.panel.resize(count * size * static_cast<size_t>(kernels.panel_element_size));
  for (size_t q = 0; q < size; ++q) {
    const int64_t place = tile.start + static_cast<int64_t>(q), query = order_[static_cast<size_t>(place)];
    const double squared_norm = queries.coordinates.squared_norms[query];
    const double* values = queries.coordinates.values + query * layout_.dims();
    const bool huge = is_huge(squared_norm);
    double read = 0, rounded = 0, error = 0, stored = 0;
    for (size_t k = 0; k < count; ++k) {
      const double value = tile.dims[k] < layout_.block_dims && !huge ? values[tile.dims[k]] : 0;
      const uint16_t narrow = to_bfloat16(value);
      const float back = from_bfloat16(narrow);
      if (kernels.panel_element_size == 2) {
        std::memcpy(tile.panel.data() + ((k / 2 * size + q) * 2 + k % 2) * 2, &narrow, 2);
      } else {
        std::memcpy(tile.panel.data() + (k * size + q) * 4, &back, 4);
      }
      read += value * value;
      rounded += double{back} * back;
      error += (value - back) * (value - back);
    }
    for (int k = 0; k < layout_.block_dims; ++k) stored += values[k] * values[k];
    const double omitted = count < static_cast<size_t>(layout_.block_dims) ? tail_norm(stored, read, 0) : 0;
    set_bound(queries, place, omitted, rounded, error, stored);
  }
}

void Tiles::fill_bytes(const Queries& queries, const Kernels& kernels, Tile& tile) {
  tile.count = layout_.padded_block_dims();
  const size_t size = static_cast<size_t>(tile.size);
  tile.panel.resize(static_cast<size_t>(tile.count) * size);
  for (size_t q = 0; q < size; ++q) {
    const int64_t place = tile.start + static_cast<int64_t>(q), query = order_[static_cast<size_t>(place)];
    const double* values = queries.coordinates.values + query * layout_.dims();
    const bool huge = is_huge(queries.coordinates.squared_norms[query]);
    double largest = 0;
    for (int k = 0; k < layout_.block_dims; ++k) {
      largest = std::max(largest, huge ? 0 : std::fabs(values[k] * layout_.steps[k]));
    }
    const float scale = round_up(largest / kernels.int8_limit);
    const bool none = !(scale > 0 && scale < kInfinity);  // nothing to be multiples of
    double rounded = 0, error = 0, stored = 0;
    int32_t sum = 0;
    for (int k = 0; k < tile.count; ++k) {
      const double value = k < layout_.block_dims && !huge ? values[k] : 0;
      const double step = k < layout_.block_dims ? layout_.steps[k] : 1;
      const double units = none ? 0 : std::nearbyint(value * step / scale), back = units * scale / step;
      tile.panel[(static_cast<size_t>(k / 4) * size + q) * 4 + static_cast<size_t>(k % 4)] =
          static_cast<char>(static_cast<int8_t>(units));
      sum += static_cast<int32_t>(units);
      rounded += back * back;
      error += (value - back) * (value - back);
      stored += value * value;
    }
    bytes_[static_cast<size_t>(place)] = {none ? 0 : scale, 128 * sum};
    set_bound(queries, place, 0, rounded, error, stored);
  }
}

void Tiles::set_bound(const Queries& queries, int64_t place, double omitted, double rounded, double error,
                      double stored) {
  const double squared_norm = queries.coordinates.squared_norms[order_[static_cast<size_t>(place)]];
  if (is_huge(squared_norm)) {
    bounds_[static_cast<size_t>(place)] = {kInfinity, 0, 0, -kInfinity};
    return;
  }
  const double eta = queries.coordinates.orthogonality_error;
  bounds_[static_cast<size_t>(place)] = {
      norm_factor(squared_norm, error, rounding_of(layout_, layout_.block_dims) + eta, omitted), error_term(rounded),
      round_up(tail_norm(squared_norm, stored, eta)), -kInfinity};
  if (layout_.row_dims > 0) fill_rows(queries, place, omitted, rounded, error, stored);
}

// The later bounds of a query; `omitted` covers the dimensions of the blocks that its tile does not read.
void Tiles::fill_rows(const Queries& queries, int64_t place, double omitted, double rounded, double error,
                      double read) {
  const int64_t query = order_[static_cast<size_t>(place)];
  const double squared_norm = queries.coordinates.squared_norms[query], eta = queries.coordinates.orthogonality_error;
  const double* values = queries.coordinates.values + query * layout_.dims() + layout_.block_dims;
  uint16_t* row = rows_.data() + place * layout_.padded_row_dims();
  for (int part = 0; part < kRowParts; ++part) {
    for (int k = layout_.row_part(part); k < std::min(layout_.row_dims, layout_.row_part(part + 1)); ++k) {
      row[k] = to_bfloat16(values[k]);
      const double back = from_bfloat16(row[k]);
      read += values[k] * values[k];
      rounded += back * back;
      error += (values[k] - back) * (values[k] - back);
    }
    row_bounds_[static_cast<size_t>(place * kRowParts + part)] = {
        norm_factor(squared_norm, error, rounding_of(layout_, layout_.dims()) + eta, omitted), error_term(rounded),
        round_up(tail_norm(squared_norm, read, eta)), 0};
  }
}

}  // namespace pyhue
