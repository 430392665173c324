// How a search on the GPU is cut up: sizes that depend on the shapes alone, never on values, so that the same launches
// serve every call of a shape and a CUDA graph can hold them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/packed.h"

namespace pyhue::cuda {

constexpr int kMaxK = 1024;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

constexpr int64_t kListBytes = int64_t{64} << 20;  // of candidates, for all queries of a batch
constexpr int64_t kMaxBatch = 4096;
constexpr int64_t kQueryTile = 128;  // a batch is a multiple of it
// A chunk of the memory ends where so many times as many vectors were searched as before it. The k best of m vectors
// bound the k best of 8 m, of which about 7 k enter: candidate lists stay short, and few chunks are needed.
constexpr int64_t kGrowth = 8;
constexpr int64_t kChunkStep = 256;  // chunks begin at multiples of it in their piece: no tile straddles two

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
// Candidates that a query may have in a chunk; with more, the query goes through the chunk without the screen.
inline int64_t list_length(int64_t k) { return std::clamp<int64_t>(128 * best_length(k), 2048, 65536); }

// Queries of a screening tile. Products that no query needs cost nothing but time: small batches take small tiles.
inline int tile_queries(int64_t queries, int largest) {
  for (int tile = 64; tile < largest; tile *= 2) {
    if (queries <= tile) return tile;
  }
  return largest;
}

// The end of the chunk that begins at `begin` of a piece of n vectors, before which `searched` were searched; `left` as
// in Piece. Nothing bounds the candidates of a memory's first chunk: it must fit a list.
inline int64_t chunk_end(int64_t begin, int64_t searched, int64_t n, int64_t k, const int64_t* left) {
  const int64_t before = searched + (left ? left[begin / kChunkStep] : begin);
  const int64_t wanted = std::max({kChunkStep, 2 * best_length(k), before * kGrowth}) - searched;
  if (!left) return std::min(n, round_up_to(wanted, kChunkStep));
  const int64_t* end = left + (n + kChunkStep - 1) / kChunkStep + 1;
  return std::min(n, (std::lower_bound(left + begin / kChunkStep + 1, end, wanted) - left) * kChunkStep);
}

// Offsets of the arrays in the scratch memory of a batch.
struct Scratch {
  int64_t coordinates;    // packed, of the padded queries
  int64_t bounds;         // (padded queries,) ScreenQuery
  int64_t squared_norms;  // (padded queries,) double
  int64_t best;           // (queries, best_length) keys
  int64_t lists;          // (queries, list_length) positions, then keys
  int64_t counts;         // (padded queries,) int32
  int64_t rescanned;      // (queries,) int32
  int64_t padded;         // queries with those that fill the last tile, of whatever size
  int64_t bytes;
};

inline Scratch scratch_of(int64_t queries, int64_t k, int dim, int largest_tile) {
  Scratch scratch{};
  scratch.padded = round_up_to(queries, tile_queries(queries, largest_tile));
  int64_t end = 0;
  const auto place = [&](int64_t bytes) {
    const int64_t begin = end;
    end += round_up_to(bytes, 256);
    return begin;
  };
  scratch.coordinates = place(scratch.padded * slabs_of(dim) * kRowBytes);
  scratch.bounds = place(scratch.padded * 16);
  scratch.squared_norms = place(scratch.padded * 8);
  scratch.best = place(queries * best_length(k) * 8);
  scratch.lists = place(queries * list_length(k) * 8);
  scratch.counts = place(scratch.padded * 4);
  scratch.rescanned = place(queries * 4);
  scratch.bytes = end;
  return scratch;
}

}  // namespace pyhue::cuda
