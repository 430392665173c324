#include "core/audit.h"

#include <algorithm>
#include <vector>

#include "core/bound.h"
#include "core/screen.h"

namespace pyhue {

double audit(const Piece& piece, int dim, const Layout& layout, const Queries& queries, int64_t count, int64_t rows,
             const float* distances, uint8_t* stages, const Executor& executor) {
  const StandardArithmetic standard;
  std::fill(stages, stages + count * rows, uint8_t{0});
  const Tiles tiles(queries, 0, count, layout, kernels(), executor);
  const Screen screen(layout, tiles);
  std::vector<QueryBound> bounds = tiles.bounds();
  for (size_t place = 0; place < bounds.size(); ++place) {
    const int64_t query = tiles.order()[place];
    bounds[place].threshold = screening_threshold(queries.coordinates.squared_norms[query], distances[query], dim);
  }
  std::vector<Survivor> survivors(static_cast<size_t>(Screen::most(kernels())));
  double dims = 0;
  for (int64_t t = 0; t < tiles.size(); ++t) {
    const Tile& tile = tiles[t];
    dims += tile.count;
    for (int64_t block = 0; block < piece.blocks(); ++block) {
      const auto mark = [&](int found, uint8_t stage) {
        for (size_t i = 0; i < static_cast<size_t>(found); ++i) {
          const int64_t query = tiles.order()[static_cast<size_t>(tile.start + survivors[i].query)];
          stages[query * rows + piece.order[block * kBlock + survivors[i].lane]] = stage;
        }
      };
      const int found = screen.blocks(piece, block, tile, bounds.data(), survivors.data());
      mark(found, 1);
      mark(screen.rows(piece, block, tile, bounds.data(), survivors.data(), found), 2);
    }
  }
  return dims / static_cast<double>(std::max<int64_t>(1, tiles.size()));
}

}  // namespace pyhue
