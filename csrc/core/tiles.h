// The queries of one pass, cut into tiles for the screening kernel.
//
// A tile reads only the dimensions that matter to its queries: those where most of their squared norm lies.
// What a query leaves out enters its bound (omitted_q in pack.h). Activations after a ReLU are sparse, and
// neighbouring pixels are active in the same channels, so a tile of alike queries needs a fraction of the
// dimensions; queries are therefore sorted by their nearest cluster first.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels.h"
#include "core/pack.h"

namespace pyhue {

struct Queries {
  const float* vectors;     // (n, dim) float32, row-major
  Coordinates coordinates;  // of the n queries
  const int32_t* clusters;  // (n, clusters_per_query): nearest clusters of each, nearest first
  int clusters_per_query;   // 0: none
  double omit;              // share of a query's norm that a tile may leave out, 0 .. 1
};

struct Tile {
  int64_t start;              // first query, a place in Tiles::order()
  int size;                   // queries
  int count;                  // dimensions read of each block
  std::vector<int32_t> dims;  // (count + kDimsAhead)
  std::vector<char> panel;    // as ScreenTile or, of blocks of bytes, ScreenBytes takes it
};

class Tiles {
 public:
  Tiles(const Queries& queries, int64_t first, int64_t count, const Layout& layout, const Kernels& kernels,
        const Executor& executor);

  // False when the executor was interrupted while they were made: then they are not to be used.
  bool complete() const { return complete_; }
  int64_t size() const { return static_cast<int64_t>(tiles_.size()); }
  const Tile& operator[](int64_t tile) const { return tiles_[static_cast<size_t>(tile)]; }

  // The query at each place.
  const std::vector<int64_t>& order() const { return order_; }
  // By place; thresholds are not set.
  const std::vector<QueryBound>& bounds() const { return bounds_; }
  // (places, kRowParts): factors of the bounds over the blocks and the rows up to the end of a part.
  const QueryBound* row_bounds(int64_t place) const { return row_bounds_.data() + place * kRowParts; }
  // By place, where blocks are of bytes.
  const ByteQuery* bytes(int64_t place) const { return bytes_.data() + place; }
  const uint16_t* row(int64_t place) const { return rows_.data() + place * layout_.padded_row_dims(); }

 private:
  void fill(const Queries& queries, const Kernels& kernels, Tile& tile);
  void fill_bytes(const Queries& queries, const Kernels& kernels, Tile& tile);
  void set_bound(const Queries& queries, int64_t place, double omitted, double rounded, double error, double stored);
  void fill_rows(const Queries& queries, int64_t place, double omitted, double rounded, double error, double read);

  Layout layout_;
  bool complete_ = false;
  std::vector<int64_t> order_;
  std::vector<Tile> tiles_;
  std::vector<QueryBound> bounds_;
  std::vector<QueryBound> row_bounds_;
  std::vector<ByteQuery> bytes_;
  std::vector<uint16_t> rows_;
};

}  // namespace pyhue
