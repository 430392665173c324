// The two filters of a search: a tile of queries against a block of a packed piece, and what survives against its rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/isa.h"
#include "core/memory.h"
#include "core/tiles.h"

namespace pyhue {

// At which stage a tile's blocks have ended lately: its next ones are not tested long before.
class StageHistory {
 public:
  int first() const { return static_cast<int>(mean_); }
  void ended(int stage) {
    const float later = static_cast<float>(stage) - mean_;
    // Where blocks end at the first stage that is tested, an earlier one is tried now and then.
    mean_ = std::max(0.0f, mean_ + (later > 0 ? later / 8 : -1.0f / 16));
  }

 private:
  float mean_ = 0;
};

// The higher, the likelier a neighbour; a bound that is no number excludes nothing.
inline float likelihood(float bound) { return std::isnan(bound) ? std::numeric_limits<float>::infinity() : bound; }

class Screen {
 public:
  // Both must outlive it.
  Screen(const Layout& layout, const Tiles& tiles) : layout_(layout), tiles_(tiles), kernels_(kernels()) {
    while (leave_ + 1 < layout.block_stages && layout.block_ends[leave_] < layout.row_begin) ++leave_;
    if (!layout.row_stages) leave_ = 0;
  }

  // What a search reads of a block, about.
  int64_t block_bytes() const { return layout_.block_bytes() + int64_t{kBlock} * layout_.padded_row_dims(); }

  // How many survivors there are at most.
  static int64_t most(const Kernels& kernels) { return int64_t{kernels.tile_queries} * kBlock; }

  // Writes the survivors of the first filter, and how many coordinates it read of all vectors of the block together;
  // returns how many survive.
  int blocks(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, StageHistory& history,
             Survivor* survivors, int64_t& read) const {
    BlockScreen screen = block_screen(piece, block, tile, bounds);
    screen.first = history.first();
    ScreenEnd end;
    const int count = kernels_.screen_block(screen, tile.size, survivors, &end);
    history.ended(end.stage);
    read = end.coordinates * piece.lanes(block) / kBlock;  // but for padding
    return count == 0 ? 0 : without_padding(piece.lanes(block), survivors, count);
  }

  // The same of one stage alone: writes what its bound does not exclude.
  int block_stage(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, int stage,
                  Survivor* survivors) const {
    BlockScreen screen = block_screen(piece, block, tile, bounds);
    screen.first = stage;
    screen.stages = stage + 1;
    ScreenEnd end;
    const int count = kernels_.screen_block(screen, tile.size, survivors, &end);
    return without_padding(piece.lanes(block), survivors, count);
  }

  // The same of the first stage after which rows may take over: enough to tell near vectors from others.
  int ranking(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds,
              Survivor* survivors) const {
    const int stage = layout_.row_stages ? leave_ : layout_.block_stages - 1;
    return block_stage(piece, block, tile, bounds, stage, survivors);
  }

  // All bounds and lower bounds of the first filter, as BoundBlock has them; of padding anything.
  void bounds(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* of_queries, float* bounds,
              int64_t stride, float* least) const {
    kernels_.bound_block(block_screen(piece, block, tile, of_queries), tile.size, bounds, stride, least);
  }

  // Drops what the second filter excludes; returns how many stay.
  int rows(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, Survivor* survivors,
           int count) const {
    return row_stages(piece, block, tile, bounds, layout_.row_stages, survivors, count);
  }

  // The same up to some stage.
  int row_stages(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds, int stages,
                 Survivor* survivors, int count) const {
    if (!stages || !count) return count;
    const int64_t first = block * kBlock;
    const RowScreen screen = {piece.filters.rows + first * layout_.padded_row_dims(),
                              layout_.padded_row_dims(),
                              layout_.row_begin,
                              terms(piece, block),
                              piece.filters.row_bounds + first * layout_.row_stages * kStageTerms,
                              int64_t{layout_.row_stages} * kStageTerms,
                              tiles_.values(tile.start),
                              layout_.padded_dims(),
                              tiles_.row_factors() + tile.start,
                              tiles_.queries(),
                              bounds + tile.start,
                              layout_.row_ends,
                              stages};
    return kernels_.screen_rows(screen, survivors, count);
  }

 private:
  BlockScreen block_screen(const Piece& piece, int64_t block, const Tile& tile, const QueryBound* bounds) const {
    return {piece.filters.blocks + block * layout_.block_bytes(),
            terms(piece, block),
            tiles_.values(tile.start),
            layout_.padded_dims(),
            tiles_.block_factors() + tile.start,
            tiles_.queries(),
            bounds + tile.start,
            layout_.block_ends,
            layout_.block_stages,
            0,
            leave_};
  }

  const float* terms(const Piece& piece, int64_t block) const {
    return piece.filters.bounds + block * layout_.block_terms() * kBlock;
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
  int leave_ = 0;  // the first stage after which rows hold all that follows
};

}  // namespace pyhue
