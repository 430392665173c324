// What the screening kernels have in common: the test of a tile of sums. Included by search.cu only.
//
// A warp's sums are fragments of 16 vectors x 8 queries: of vectors from a first one on, kRowStep apart, and queries
// from a first one on. A lane has, of each, vectors lane / 4 and 8 further, and of those queries 2 (lane % 4) and the
// next.
#pragma once

#include "cuda/search_kernels.h"

namespace pyhue::cuda {
namespace {

// A lane's vectors: their positions, and what the bound takes of them.
template <int kRowStep, int kRows>
struct ScreenVectors {
  __device__ ScreenVectors(const Piece& piece, int64_t vector, int64_t end)
      : first(static_cast<uint32_t>(vector) + threadIdx.x % 32 / 4), end(static_cast<uint32_t>(end)) {
#pragma unroll
    for (int row = 0; row < 2 * kRows; ++row) {
      const uint32_t position = at(row) < this->end ? at(row) : 0;
      const float* terms = piece.terms + int64_t{position / kBlock} * kPackedTerms * kBlock + position % kBlock;
      half_norm[row] = terms[kPackedHalfNorm * kBlock];
      norm[row] = terms[kPackedNorm * kBlock];
      error[row] = terms[kPackedError * kBlock];
    }
  }
  __device__ uint32_t at(int row) const { return first + static_cast<uint32_t>(row / 2 * kRowStep + row % 2 * 8); }

  uint32_t first, end;  // those from `end` on are not asked for
  float half_norm[2 * kRows], norm[2 * kRows], error[2 * kRows];
};

// Appends the vector to the lists of queries that may find it: bits 2 c and 2 c + 1 stand for queries `query` + 8 c and
// the next.
__device__ inline void append(const Pass& pass, const Piece& piece, uint32_t survivors, uint32_t position, int query) {
  for (; survivors != 0; survivors &= survivors - 1) {
    const int bit = __ffs(static_cast<int>(survivors)) - 1, q = query + bit / 2 * 8 + bit % 2;
    if (pass.bounds[q].ignored != 0 || !pass.chosen(q, piece.first + position)) continue;
    const int slot = atomicAdd(pass.counts + q, 1);
    if (slot < pass.list_length) pass.lists[static_cast<int64_t>(q) * pass.list_length + slot] = Key{position};
  }
}

// Appends what the bound does not exclude to the lists. Tests leave bits and nothing else, so that many are under way;
// few are set.
template <int kRowStep, int kRows, int kColumns>
__device__ inline void append_survivors(const Pass& pass, const Piece& piece,
                                        const ScreenVectors<kRowStep, kRows>& vectors,
                                        const float (&sums)[kRows][kColumns][4], int query) {
  constexpr int kGroup = 4;  // tested together: more would need more registers than there are
  query += static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int group = 0; group < kColumns; group += kGroup) {
    uint32_t survivors[2 * kRows] = {};
#pragma unroll
    for (int bit = 0; bit < 2 * kGroup; ++bit) {
      const int column = group + bit / 2, i = bit % 2;
      const ScreenQuery factors = pass.bounds[query + column * 8 + i];
#pragma unroll
      for (int row = 0; row < 2 * kRows; ++row) {
        const float dot = sums[row / 2][column][row % 2 * 2 + i];
        const float bound = dot + vectors.norm[row] * factors.norm_factor + vectors.error[row] * factors.error_factor -
                            vectors.half_norm[row];
        if (!(bound < factors.threshold)) survivors[row] |= 1u << bit;
      }
    }
#pragma unroll
    for (int row = 0; row < 2 * kRows; ++row) {
      if (vectors.at(row) < vectors.end) append(pass, piece, survivors[row], vectors.at(row), query + group * 8);
    }
  }
}

}  // namespace
}  // namespace pyhue::cuda
