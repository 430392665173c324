// Packing: from coordinates to what the search kernels read.
//
// Coordinates are the memory's vectors in any system that makes none longer: z = R (x - centre). Those that are stored
// are rounded to int8: coordinate j to a multiple of steps[j], at most 127 of it. They are read in stages, in
// lane-interleaved blocks first, and of the few vectors that remain in rows. After each stage, of the coordinates S = 0
// .. end - 1, Cauchy-Schwarz gives an upper bound of the dot product that is certain. With u the rounded coordinates of
// a memory vector and v those of a query, whose product with the steps is rounded to a multiple of the query's own
// scale:
//
//     <q, x>  <=  <u, v>_S  +  |v|_S |z_x - u|_S  +  |(z_q - v) / w|_S |w z_x|_S  +  tail_q tail_x
//
// where <u, v> is an integer times the query's scale, computed exactly; the tails are the roots of what the squared
// norms of q and x, less the centre, have beyond those of the coordinates in S (project.h); and the weights w (weight()
// below) are large where coordinates are small and a query's rounding is coarse. With the norms of both it bounds the
// distance from below. Every term is rounded to the safe side.
//
// Vectors whose norm is beyond what float32 products hold get an infinite norm: they are never dropped.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/executor.h"
#include "core/screen_kernel_types.h"

namespace pyhue {

constexpr int kPackedVersion = 4;  // of what this file describes
constexpr int kMaxStages = 16;     // of blocks, and of rows

// Which coordinates are stored where. Blocks hold coordinates 0 .. block_dims() - 1, rows row_begin .. dims() - 1;
// where both have some, a vector may leave the blocks at any stage that ends there.
struct Layout {
  const int* block_ends;  // (block_stages,) where each stage ends, ascending; multiples of kStageDims but for the last
  int block_stages;       // 1 .. kMaxStages
  int row_begin;          // a multiple of kStageDims, or block_dims() where there are no rows
  const int* row_ends;    // (row_stages,) likewise
  int row_stages;         // 0: no rows
  const double* steps;    // (dims(),), positive

  int block_dims() const { return block_ends[block_stages - 1]; }
  int dims() const { return row_stages ? row_ends[row_stages - 1] : block_dims(); }
  // Lengths in memory, padded with zeros: of less than a stage's dimensions a block holds just a multiple of 4.
  int padded_block_dims() const { return padded(block_dims(), block_dims() < kStageDims ? 4 : kStageDims); }
  int padded_row_dims() const { return row_stages ? padded(dims() - row_begin, kStageDims) : 0; }
  // Of a query.
  int padded_dims() const { return padded(dims(), kStageDims); }
  int64_t block_bytes() const { return int64_t{kBlock} * padded_block_dims(); }
  int block_terms() const { return 1 + kStageTerms * block_stages; }

 private:
  static int padded(int dims, int to) { return (dims + to - 1) / to * to; }
};

// Both kinds of stages in the order of their ends: on_block(stage) and on_row(stage).
template <class OnBlock, class OnRow>
void for_each_stage(const Layout& layout, OnBlock on_block, OnRow on_row) {
  for (int b = 0, r = 0; b < layout.block_stages || r < layout.row_stages;) {
    if (r == layout.row_stages || (b < layout.block_stages && layout.block_ends[b] <= layout.row_ends[r])) {
      on_block(b++);
    } else {
      on_row(r++);
    }
  }
}

// Coordinates of `count` vectors.
struct Coordinates {
  const double* values;         // (count, layout.dims())
  const double* squared_norms;  // (count,) of the vectors less the centre
  int64_t count;
  double error;  // eta of project.h
};

// Upper bound of the norm of what is left of `squared_norm` without `squared_part`.
double tail_norm(double squared_norm, double squared_part, double error);

// The weight of a coordinate, at least 1. Steps grow with the spread of a coordinate, less than in proportion
// (pyhue/_search/plan.py); this makes the terms of both factors about alike, which is where Cauchy-Schwarz loses least.
double weight(double step, double largest_step);

// The packed form of n vectors. Position p is in lane p % kBlock of block p / kBlock.
struct Filters {
  const uint8_t* blocks;    // (ceil(n / kBlock), padded_block_dims / 4, kBlock, 4): 128 more than the values
  const float* bounds;      // (ceil(n / kBlock), block_terms, kBlock): half of the squared norm, rounded down, and
                            // for each stage its StageTerm
  const uint8_t* rows;      // (n, padded_row_dims), likewise, or null
  const float* row_bounds;  // (n, row_stages, kStageTerms), or null
};

// The same, to be written.
struct FilterArrays {
  uint8_t* blocks;
  float* bounds;
  uint8_t* rows;
  float* row_bounds;
};

// Writes vectors one by one; one thread's.
class Packer {
 public:
  // `layout` must outlive it. error: eta of the coordinates.
  Packer(const Layout& layout, double error, const FilterArrays& to);
  // values (layout.dims(),); the squared norm of the vector less the centre, and of what was projected in its place.
  void pack(int64_t position, const double* values, double squared_norm, double squared_length);

 private:
  const Layout& layout_;
  double error_;
  FilterArrays to_;
  std::vector<double> squared_weights_, inverses_;
  std::vector<uint8_t> bytes_, block_bytes_;  // of a vector; without the coordinates of rows alone
};

// Writes positions first .. first + coordinates.count - 1.
void pack(const Layout& layout, const Coordinates& coordinates, int64_t first, const FilterArrays& to,
          const Executor& executor);

}  // namespace pyhue
