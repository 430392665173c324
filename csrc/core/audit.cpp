#include "core/audit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/bound.h"
#include "core/screen.h"

namespace pyhue {
namespace {

// Of the squared distance, from below: what an upper bound of <z_q, z_x> - |z_x|^2 / 2 leaves of |z_q|^2. A bound that
// is no number says nothing.
float lower_distance(double squared_norm, float bound) {
  const float lower = -round_up(2.0 * bound - squared_norm);
  return std::isnan(lower) ? -std::numeric_limits<float>::infinity() : lower;
}

}  // namespace

void audit(const Piece& piece, int dim, const Layout& layout, const Queries& queries, int64_t count, int64_t rows,
           const float* distances, int32_t* ends, float* bounds, const Executor& executor) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const StandardArithmetic standard;
  std::fill(ends, ends + count * rows, 0);
  std::fill(bounds, bounds + count * rows, -kInfinity);
  const Tiles tiles(queries, 0, count, layout, kernels(), executor);
  if (!tiles.complete()) return;
  const Screen screen(layout, tiles);
  const std::vector<QueryBound> unlimited = tiles.bounds();  // every pair survives, and tells its bound
  std::vector<QueryBound> limited = unlimited;
  for (size_t place = 0; place < limited.size(); ++place) {
    const int64_t query = tiles.order()[place];
    limited[place].threshold = screening_threshold(queries.coordinates.squared_norms[query], distances[query], dim);
  }
  for_each_chunk(executor, piece.blocks(), [&](int64_t block, int) {
    const int64_t* order = piece.order + block * kBlock;
    std::vector<Survivor> all(static_cast<size_t>(Screen::most(kernels()))), some = all;
    for (int64_t t = 0; t < tiles.size(); ++t) {
      const Tile tile = tiles[t];
      const auto query_of = [&](const Survivor& s) { return at(tiles.order(), tile.start + s.query); };
      // Of pairs that no stage dropped: the bound of this one, and which it drops.
      const auto take = [&](int found, int kept, int end) {
        std::vector<char> stays(static_cast<size_t>(tile.size * kBlock));
        for (int i = 0; i < kept; ++i) {
          stays[static_cast<size_t>(some[static_cast<size_t>(i)].query * kBlock + some[static_cast<size_t>(i)].lane)] =
              1;
        }
        for (int i = 0; i < found; ++i) {
          const Survivor& s = all[static_cast<size_t>(i)];
          const int64_t pair = query_of(s) * rows + order[s.lane];
          if (ends[pair]) continue;
          bounds[pair] = lower_distance(queries.coordinates.squared_norms[query_of(s)], s.bound);
          if (!stays[static_cast<size_t>(s.query * kBlock + s.lane)]) ends[pair] = end;
        }
      };
      int found = 0;
      for (int stage = 0; stage < layout.block_stages; ++stage) {
        found = screen.block_stage(piece, block, tile, unlimited.data(), stage, all.data());
        take(found, screen.block_stage(piece, block, tile, limited.data(), stage, some.data()),
             layout.block_ends[stage]);
      }
      for (int stage = 0; stage < layout.row_stages; ++stage) {
        if (layout.row_ends[stage] <= layout.block_dims()) continue;
        some = all;
        screen.row_stages(piece, block, tile, unlimited.data(), stage + 1, all.data(), found);
        take(found, screen.row_stages(piece, block, tile, limited.data(), stage + 1, some.data(), found),
             layout.row_ends[stage]);
      }
    }
  });
}

}  // namespace pyhue
