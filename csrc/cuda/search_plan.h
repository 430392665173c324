// How a search on the GPU is cut up: sizes that depend on the shapes alone, never on values, so that the same launches
// serve every call of a shape and a CUDA graph can hold them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/search_kernel_types.h"

namespace pyhue::cuda {

constexpr int kMaxK = 1024;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTileVectors = 2 * kBlock;  // memory vectors of a screening block
constexpr int kSlab = 64;                 // dimensions that a stage of the screening pipeline holds
constexpr int kStages = 3;
constexpr int64_t kRowBytes = 128;  // of a row of a stage: 64 bfloat16
// Products in a tile row that no query needs cost nothing but time: small batches take the smaller tile.
constexpr int kSmallTile = 64, kLargeTile = 128;

constexpr int64_t kListBytes = int64_t{64} << 20;  // of candidates, for all queries of a pass
constexpr int64_t kMaxBatch = 4096;                // queries in a pass
// Each chunk of the memory is so many times as long as all before it. The k best of m vectors bound the k best of
// 8 m, of which about 7 k enter: candidate lists stay short, and few chunks are needed.
constexpr int64_t kGrowth = 8;

inline int64_t round_up_to(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline int64_t power_of_two(int64_t at_least) {
  int64_t power = 1;
  while (power < at_least) power *= 2;
  return power;
}

// The k best so far are kept in an array of this length.
inline int64_t best_length(int64_t k) { return std::max<int64_t>(16, power_of_two(k)); }
// Keys that a block sorts at once: the best so far and as many candidates at least.
inline int64_t sort_length(int64_t k) { return std::max<int64_t>(kThreads, 2 * best_length(k)); }
// Candidates that a query may have in a chunk; with more, its chunk is searched without the screen.
inline int64_t list_length(int64_t k) { return std::clamp<int64_t>(128 * best_length(k), 2048, 65536); }

inline int tile_queries(int64_t queries) { return queries <= kSmallTile ? kSmallTile : kLargeTile; }

inline int64_t batch_queries(int64_t queries, int64_t k) {
  const int64_t fitting = kListBytes / (8 * list_length(k)) / kLargeTile * kLargeTile;
  return std::min(queries, std::clamp<int64_t>(fitting, kLargeTile, kMaxBatch));
}

// The end of the chunk that begins at `begin`. Nothing bounds the first chunk's candidates: it must fit a list.
inline int64_t chunk_end(int64_t begin, int64_t n, int64_t k) {
  const int64_t first = std::max<int64_t>(256, 2 * best_length(k));
  return std::min(n, begin == 0 ? first : begin * kGrowth);
}

inline int64_t screen_bytes(int tile) { return kStages * (tile + 2 * kSlab) * kRowBytes; }

// Offsets of the arrays in the scratch memory of a pass.
struct Scratch {
  int64_t coordinates;    // (padded queries, padded dims) bfloat16
  int64_t bounds;         // (padded queries,) ScreenQuery
  int64_t squared_norms;  // (padded queries,) double
  int64_t best;           // (queries, best_length) keys
  int64_t lists;          // (queries, list_length) positions, then keys
  int64_t counts;         // (padded queries,) int32
  int64_t bytes;
};

inline Scratch scratch_of(int64_t queries, int64_t k, int dim) {
  const int64_t batch = batch_queries(queries, k), padded = round_up_to(batch, tile_queries(batch));
  Scratch scratch{};
  int64_t end = 0;
  const auto place = [&](int64_t bytes) {
    const int64_t begin = end;
    end += round_up_to(bytes, 256);
    return begin;
  };
  scratch.coordinates = place(padded * round_up_to(dim, kSlab) * 2);
  scratch.bounds = place(padded * 16);
  scratch.squared_norms = place(padded * 8);
  scratch.best = place(batch * best_length(k) * 8);
  scratch.lists = place(batch * list_length(k) * 8);
  scratch.counts = place(padded * 4);
  scratch.bytes = end;
  return scratch;
}

}  // namespace pyhue::cuda
