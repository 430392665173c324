// What the filters of each level take; screen.h drives them. Plain types, no standard library.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kBlock = 64;      // memory vectors in a lane-interleaved block
constexpr int kStageDims = 64;  // stages end at multiples of so many coordinates
// Of 16 coordinates from a multiple of 16 on, those that are 0 or 1 modulo 4, or those that are 2 or 3: so many.
constexpr int kSumCoordinates = 8;

// Terms of the bound (pack.h) at the end of a stage, rounded up: the weighted norm, that of the rounding error, and of
// what follows.
enum StageTerm { kNorm, kError, kTail, kStageTerms };

// A query's factors of the same terms, and what the offset of every byte adds to its integer sum.
struct StageFactors {
  float norm, error, tail;
  int32_t offset;
};

// Of a query, whatever the stage.
struct QueryBound {
  float scale;      // what one unit of an integer sum stands for
  float threshold;  // survivors have bound >= threshold; rises as neighbours are found
};

struct Survivor {
  int32_t query;  // within the tile
  int32_t lane;   // within the block
  int32_t sum;    // of products of bytes and int8, over the coordinates read
  int32_t end;    // how many these are
  float bound;    // of <z_q, z_x> - |z_x|^2 / 2
};

// A tile of queries against one block of memory vectors, in stages.
struct BlockScreen {
  const uint8_t* block;         // (quads, kBlock, 4): 4 coordinates of a vector are a 32-bit lane
  const float* bounds;          // (kBlock,) half of the squared norm, then (stages, kStageTerms, kBlock)
  const int8_t* queries;        // (queries, stride), within int8_limit and sum_limit; zeros behind the coordinates
  int64_t stride;               // a multiple of kStageDims
  const StageFactors* factors;  // (stages, factor_stride): from the tile's first query on
  int64_t factor_stride;
  const QueryBound* query_bounds;
  const int* ends;  // (stages,) the coordinates that a stage ends before
  int stages;
  int first;  // the first stage whose bound is tested
  int leave;  // the first stage after which few survivors may be left to what follows
};

// Where the groups of lanes of a block ended.
struct ScreenEnd {
  int stage = 0;        // of the last group
  int coordinates = 0;  // read, summed over the lanes
};

// Writes every (query, lane) that the bound of the stage where it ended does not exclude; returns how many, at most
// queries * kBlock. Groups of lanes go from stage to stage together until none survives, or few do from stage `leave`
// on, or the stages are over. queries: 1 .. tile_queries. Cost: 2 * coordinates * kBlock * queries operations; the
// block is read once. Distances are never stored: sums stay in registers, and a compare and a mask test for each
// register decide whether anything is written.
using ScreenBlock = int (*)(const BlockScreen& screen, int queries, Survivor* survivors, ScreenEnd* end);

// Writes the bound of every pair at the last stage, bounds (queries, stride), and raises least (queries, kBlock), lane
// by lane, to what <z_q, z_x> - |z_x|^2 / 2 is at least.
using BoundBlock = void (*)(const BlockScreen& screen, int queries, float* bounds, int64_t stride, float* least);

// A number that at least k of some values are not below, and hardly more are. count: a multiple of kBlock, at least k;
// none is NaN.
using KthLargest = float (*)(const float* values, int64_t count, int64_t k);

// Writes which of some bounds are not below a threshold, ascending; returns how many. count: a multiple of kBlock;
// positions: room for kAhead more than are found.
using NotBelow = int (*)(const float* bounds, int64_t count, float threshold, int32_t* positions);
constexpr int kAhead = 2;

// The rows of a block and a tile's queries.
struct RowScreen {
  const uint8_t* rows;  // (kBlock, stride): coordinates begin ..
  int64_t stride;
  int begin;
  const float* half_norms;  // (kBlock,)
  const float* bounds;      // (kBlock, bound_stride): of each stage its StageTerm
  int64_t bound_stride;
  const int8_t* queries;  // (queries, query_stride): coordinates 0 ..
  int64_t query_stride;
  const StageFactors* factors;  // (stages, factor_stride), likewise
  int64_t factor_stride;
  const QueryBound* query_bounds;
  const int* ends;  // (stages,)
  int stages;
};

// Takes the survivors from where they ended through the stages that end later, and keeps those that no bound excludes,
// in place and in order; returns how many.
using ScreenRows = int (*)(const RowScreen& screen, Survivor* survivors, int count);

}  // namespace pyhue
