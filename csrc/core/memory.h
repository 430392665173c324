// What a search goes through: the vectors of a memory, in pieces.
#pragma once

#include <cstdint>

#include "core/kernels.h"
#include "core/pack.h"

namespace pyhue {

// Some vectors of a memory, packed or not, in any order.
struct Piece {
  const void* vectors;  // float32 or bfloat16, row-major
  bool bfloat16;
  int64_t first;                  // what results call row 0 of `vectors`
  int64_t n;                      // positions: vectors that may be found
  const int64_t* order;           // (n,) row of the vector at each position
  bool packed;                    // false: nothing is dropped unseen, every distance is computed
  Filters filters;                // of n positions, where packed
  const int64_t* cluster_starts;  // (clusters + 1,) position of each cluster's first vector; null: no clusters

  // A row of `vectors`.
  const char* vector(int64_t row, int dim) const {
    return static_cast<const char*>(vectors) + row * dim * (bfloat16 ? 2 : 4);
  }
  int64_t blocks() const { return (n + kBlock - 1) / kBlock; }
  // Vectors of a block; the last may have fewer.
  int64_t lanes(int64_t block) const { return n - block * kBlock < kBlock ? n - block * kBlock : kBlock; }
};

// The squared distance of a query to a row of a piece.
inline float distance_to(const Kernels& kernels, const float* query, const Piece& piece, int64_t row, int dim) {
  const SquaredDistance squared = piece.bfloat16 ? kernels.squared_distance_bfloat16 : kernels.squared_distance;
  return squared(query, piece.vector(row, dim), dim);
}

// Fetches the beginning of a row, whose distance is wanted soon.
inline void prefetch(const Piece& piece, int64_t row, int dim) {
  const int bytes = dim * 2 < 512 ? dim * 2 : 512;
  for (int byte = 0; byte < bytes; byte += 64) __builtin_prefetch(piece.vector(row, dim) + byte);
}

}  // namespace pyhue
