// Packing: from coordinates to what the search kernels read.
//
// Coordinates are the memory's vectors in any system that keeps distances: z = R (x - centre). The first
// `block_dims` of them are stored in lane-interleaved blocks, the next `row_dims` in rows, both as bfloat16;
// what follows is known by its norm only, the tail. With u the rounded coordinates of a memory vector, v those
// of a query, over any set S of stored dimensions that a query chooses to read, Cauchy-Schwarz gives an upper
// bound of the dot product that is certain:
//
//     <z_q, z_x>  <=  <u, v>_S  +  |v|_S error_x  +  norm_x (error_q + omitted_q)  +  tail_q tail_x
//
// where error is the norm of what rounding changed and omitted_q the norm of the stored coordinates outside S.
// With the norms of both it bounds the distance from below. Every term is rounded to the safe side.
//
// Blocks hold bfloat16 values, or bytes: then coordinate j is rounded to a multiple of steps[j], at most 127 of it, and
// the same bound holds with the errors as they are. A query's coordinate times the step is rounded to a multiple of the
// query's own scale, so that the product of both is an integer times that scale.
//
// Vectors whose norm is beyond what float32 products hold get an infinite norm: they are never dropped.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/executor.h"
#include "core/screen_kernel_types.h"

namespace pyhue {

constexpr int kPackedVersion = 2;  // of what this file describes
constexpr int kRowParts = 2;
constexpr int kRowTerms = 2;  // of a part: error and tail

// Which coordinates are stored, and how.
struct Layout {
  int block_dims;       // 1 .. 4096
  int row_dims;         // 0: no rows
  const double* steps;  // (block_dims,), positive: of blocks of bytes; null: blocks of bfloat16
  // Lengths in memory: block_dims is padded to an even number, that of bytes to a multiple of 4, row_dims to a multiple
  // of 32, with zeros.
  int padded_block_dims() const { return steps ? (block_dims + 3) / 4 * 4 : (block_dims + 1) / 2 * 2; }
  int64_t block_bytes() const { return int64_t{kBlock} * padded_block_dims() * (steps ? 1 : 2); }
  int padded_row_dims() const { return (row_dims + 31) / 32 * 32; }
  int dims() const { return block_dims + row_dims; }
  // Rows are read in two parts, with a bound after each: most of what survives the blocks ends at the first.
  int row_part(int part) const {
    return part == 0 ? 0 : part == 1 ? std::min(256, padded_row_dims()) : padded_row_dims();
  }
};

// Coordinates of `count` vectors.
struct Coordinates {
  const double* values;         // (count, layout.dims())
  const double* squared_norms;  // (count,), of all coordinates, the tail included
  int64_t count;
  double orthogonality_error;  // eta: | |R z|^2 - |z|^2 | <= eta |z|^2
};

// Upper bound of the norm of what is left of `squared_norm` without `squared_part`.
double tail_norm(double squared_norm, double squared_part, double orthogonality_error);

// The packed form of n vectors. Position p is in lane p % kBlock of block p / kBlock.
struct Filters {
  const void* blocks;       // (ceil(n / kBlock), padded_block_dims, kBlock) bfloat16, or of bytes
                            // (ceil(n / kBlock), padded_block_dims / 4, kBlock, 4) uint8, 128 more than the values
  const float* bounds;      // (ceil(n / kBlock), kBoundTerms, kBlock): see BoundTerm
  const uint16_t* rows;     // (n, padded_row_dims) bfloat16, or null
  const float* row_bounds;  // (n, kRowParts, kRowTerms): error and tail of the blocks and the rows up to the end of a
                            // part, or null
};

// The same, to be written.
struct FilterArrays {
  void* blocks;
  float* bounds;
  uint16_t* rows;
  float* row_bounds;
};

// Writes positions first .. first + coordinates.count - 1.
void pack(const Layout& layout, const Coordinates& coordinates, int64_t first, const FilterArrays& to,
          const Executor& executor);

}  // namespace pyhue
