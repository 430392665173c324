// The two filters of a search: a tile of queries against a block of a packed piece, and what survives against its rows.
#pragma once

#include <algorithm>

#include "core/isa.h"
#include "core/memory.h"
#include "core/tiles.h"

namespace pyhue {

class Screen {
 public:
  // Both must outlive it.
  Screen(const Layout& layout, const Tiles& tiles) : layout_(layout), tiles_(tiles), kernels_(kernels()) {}

  // What a search reads of a block, about.
  int64_t block_bytes() const { return layout_.block_bytes() + 2 * kBlock * layout_.padded_row_dims(); }

  // How many survivors there are at most.
  static int64_t most(const Kernels& kernels) { return int64_t{kernels.tile_queries} * kBlock; }

  // Writes the survivors of the first filter; returns how many.
  int blocks(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, Survivor* survivors) const {
    const char* values = static_cast<const char*>(piece.filters.blocks) + block * layout_.block_bytes();
    const int count =
        layout_.steps
            ? kernels_.screen_bytes(reinterpret_cast<const uint8_t*>(values), terms(piece, block), tile.count / 4,
                                    reinterpret_cast<const int8_t*>(tile.panel.data()), tiles_.bytes(tile.start),
                                    bounds + tile.start, tile.size, survivors)
            : kernels_.screen_tile(reinterpret_cast<const uint16_t*>(values), terms(piece, block), tile.dims.data(),
                                   tile.count, tile.panel.data(), bounds + tile.start, tile.size, survivors);
    return count == 0 ? 0 : without_padding(piece.lanes(block), survivors, count);
  }

  // Drops what the second filter excludes; returns how many stay.
  int rows(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, Survivor* survivors,
           int count) const {
    const int64_t first = block * kBlock;
    for (int part = 0; part < kRowParts && layout_.row_part(part) < layout_.row_part(part + 1); ++part) {
      const int64_t stride = layout_.padded_row_dims();
      const int begin = layout_.row_part(part), end = layout_.row_part(part + 1);
      const RowPart rows = {piece.filters.rows + first * stride + begin,
                            tiles_.row(tile.start) + begin,
                            stride,
                            end - begin,
                            terms(piece, block),
                            piece.filters.row_bounds + (first * kRowParts + part) * kRowTerms,
                            kRowTerms * kRowParts,
                            tiles_.row_bounds(tile.start) + part,
                            kRowParts,
                            bounds + tile.start};
      count = kernels_.screen_rows(rows, survivors, count);
    }
    return count;
  }

 private:
  const float* terms(const Piece& piece, int64_t block) const {
    return piece.filters.bounds + block * kBoundTerms * kBlock;
  }

  // Drops the padding of the last block.
  static int without_padding(int64_t lanes, Survivor* survivors, int count) {
    if (lanes == kBlock) return count;
    const auto is_padding = [&](const Survivor& survivor) { return survivor.lane >= lanes; };
    return static_cast<int>(std::remove_if(survivors, survivors + count, is_padding) - survivors);
  }

  const Layout& layout_;
  const Tiles& tiles_;
  const Kernels& kernels_;
};

}  // namespace pyhue
