// The queries of one pass as the filters read them, cut into tiles.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels.h"
#include "core/pack.h"

namespace pyhue {

constexpr int64_t kPassQueries = 1008;  // that go through a memory together; bounds the scratch memory

template <class Vector>
auto& at(Vector& vector, int64_t i) {
  return vector[static_cast<size_t>(i)];
}

struct Queries {
  const float* vectors;     // (n, dim) float32, row-major
  Coordinates coordinates;  // of the n queries
  const int32_t* clusters;  // (n, clusters_per_query): nearest clusters of each, nearest first
  int clusters_per_query;   // 0: none
};

// Queries that are screened together; neighbours, which find much the same.
struct Tile {
  int64_t start;  // the first, of the pass
  int size;
};

class Tiles {
 public:
  // Of queries first .. first + count - 1.
  Tiles(const Queries& queries, int64_t first, int64_t count, const Layout& layout, const Kernels& kernels,
        const Executor& executor);
  // Some of the queries of other tiles, by their places there; `order` has these places.
  Tiles(const Tiles& all, const std::vector<int64_t>& places);

  // False when the executor was interrupted while they were made: then they are not to be used.
  bool complete() const { return complete_; }
  int64_t size() const { return (count_ + tile_queries_ - 1) / tile_queries_; }
  Tile operator[](int64_t tile) const {
    const int64_t start = tile * tile_queries_;
    return {start, static_cast<int>(std::min(tile_queries_, count_ - start))};
  }

  // The query at each place.
  const std::vector<int64_t>& order() const { return order_; }
  // Of each query; thresholds are not set.
  const std::vector<QueryBound>& bounds() const { return bounds_; }
  // (block_stages, queries) and (row_stages, queries).
  const StageFactors* block_factors() const { return block_factors_.data(); }
  const StageFactors* row_factors() const { return row_factors_.data(); }
  int64_t queries() const { return count_; }
  // (queries, padded_dims), from a query on.
  const int8_t* values(int64_t query) const { return values_.data() + query * layout_.padded_dims(); }

 private:
  void fill(const Queries& queries, int64_t query, int64_t place, const Kernels& kernels);

  Layout layout_;
  std::vector<double> steps_, inverse_steps_, inverse_weights_;  // zeros behind the coordinates
  int64_t count_, tile_queries_;
  bool complete_ = false;
  std::vector<int64_t> order_;
  std::vector<QueryBound> bounds_;
  std::vector<StageFactors> block_factors_, row_factors_;
  std::vector<int8_t> values_;
};

}  // namespace pyhue
