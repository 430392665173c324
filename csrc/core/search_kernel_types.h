// What the search kernels of each level take; search.cpp drives them. Plain types, no standard library.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kBlock = 64;  // memory vectors in a lane-interleaved block

// Per-vector terms of the bound, one array of kBlock floats each, stored after each other for a block.
// pack.h says what they are.
enum BoundTerm { kHalfNorm, kNorm, kError, kTail, kBoundTerms };

// Per-query factors of the same terms.
struct QueryBound {
  float norm_factor;   // times kNorm of the vector
  float error_factor;  // times kError
  float tail_factor;   // times kTail
  float threshold;     // survivors have bound >= threshold; moves as neighbours are found
};

struct Survivor {
  int32_t query;  // within the tile
  int32_t lane;   // within the block
  float dot;      // the approximate dot product of the prefixes
};

// Screens a tile of queries against one block of memory vectors.
//   block    (dims / 2, kBlock, 2) bfloat16, dims even
//   bounds   (kBoundTerms, kBlock)
//   panel    (dims / 2, queries, 2) bfloat16 or float32 (panel_element_size bytes each)
//   queries  1 .. tile_queries
// Writes every (query, lane) that the bound does not exclude, and returns how many, at most
// queries * kBlock. Distances are never stored: accumulators stay in registers, and a compare and a
// mask test for each register decide whether anything is written.
// Cost: 2 * dims * kBlock * queries operations; the block is read once, the panel once per register row.
using ScreenTile = int (*)(const uint16_t* block, const float* bounds, const void* panel,
                           const QueryBound* query_bounds, int queries, int dims, Survivor* survivors);

// sum (a_i - b_i)^2 in float32 and in a fixed order, the same at every level: 32 partial sums (element i
// goes to sum i mod 32, every operation rounded), then halved five times. The distance that search returns.
using SquaredDistance = float (*)(const float* a, const float* b, int dims);

}  // namespace pyhue
