// What the filters of each level take; screen.h drives them. Plain types, no standard library.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kBlock = 64;      // memory vectors in a lane-interleaved block
constexpr int kDimsAhead = 16;  // dimensions that the screening kernel prefetches ahead

// Per-vector terms of the bound (pack.h), an array of kBlock floats each, one after the other for a block:
// half of the squared norm, rounded down; norm, norm of the rounding error, norm of the tail, rounded up.
enum BoundTerm { kHalfNorm, kNorm, kError, kTail, kBoundTerms };

// Per-query factors of the same terms.
struct QueryBound {
  float norm_factor;
  float error_factor;
  float tail_factor;
  float threshold;  // survivors have bound >= threshold; rises as neighbours are found
};

struct Survivor {
  int32_t query;  // within the tile
  int32_t lane;   // within the block
  float dot;      // <u, v>_S
  float bound;    // of <z_q, z_x> - |z_x|^2 / 2
};

// Screens a tile of queries against one block of memory vectors.
//   block    (padded_block_dims, kBlock) bfloat16
//   bounds   (kBoundTerms, kBlock)
//   dims     (count + kDimsAhead,) the dimensions S to read, count even; the rest is only prefetched
//   panel    the queries' values of them: (count / 2, queries, 2) bfloat16 where panel_element_size is 2,
//            (count, queries) float32 where it is 4
//   queries  1 .. tile_queries
// Writes every (query, lane) that the bound does not exclude, and returns how many, at most
// queries * kBlock. Distances are never stored: accumulators stay in registers, and a compare and a mask test
// for each register decide whether anything is written.
// Cost: 2 * count * kBlock * queries operations; the rows of the block that `dims` names are read once.
using ScreenTile = int (*)(const uint16_t* block, const float* bounds, const int32_t* dims, int count,
                           const void* panel, const QueryBound* query_bounds, int queries, Survivor* survivors);

// The same of blocks of bytes: vectors and queries are rounded to int8 multiples of steps (pack.h), and the sums are
// exact integers.
//   block   (quads, kBlock, 4) uint8: 128 more than the values, so that 4 dimensions of a vector are a 32-bit lane
//   panel   (quads, queries, 4) int8, at most int8_limit in size
//   sums    (queries,): how a query's dot product comes from its integer sum
// Cost: 8 * quads * kBlock * queries operations; the block is read once.
struct ByteQuery {
  float scale;     // what one unit of the sum stands for
  int32_t offset;  // what the 128s add to the sum: taken away before
};
using ScreenBytes = int (*)(const uint8_t* block, const float* bounds, int quads, const int8_t* panel,
                            const ByteQuery* sums, const QueryBound* query_bounds, int queries, Survivor* survivors);

// One part of the rows of a block and of a tile's queries, for the bounds that follow the first.
struct RowPart {
  const uint16_t* rows;     // (kBlock, stride) bfloat16, at the part's first dimension
  const uint16_t* queries;  // (queries, stride) bfloat16, likewise
  int64_t stride;           // dimensions
  int count;                // dimensions of the part, a multiple of 32
  const float* bounds;      // (kBoundTerms, kBlock) of the block
  const float* row_bounds;  // (kBlock, row_bound_stride): error and tail with this part
  int64_t row_bound_stride;
  const QueryBound* row_queries;  // (queries, row_query_stride): factors with this part
  int64_t row_query_stride;
  const QueryBound* query_bounds;  // (queries,): thresholds
};

// Adds the part's products to the survivors' dots, tightens their bounds and keeps those that the tighter bound does
// not exclude, in place and in order; returns how many.
using ScreenRows = int (*)(const RowPart& part, Survivor* survivors, int count);

}  // namespace pyhue
