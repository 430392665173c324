// What the screening kernels have in common: the test of a tile of sums. Included by search.cu only.
#pragma once

#include "cuda/search_kernels.h"

namespace pyhue::cuda {
namespace {

// Appends what the bound does not exclude to the lists: positions before `end`. A warp's sums are fragments of 16
// vectors x 8 queries: of vectors from `vector` on, kRowStep apart, and queries from `query` on. A lane has, of each,
// vectors lane / 4 and 8 further, and of those queries 2 (lane % 4) and the next.
template <int kRowStep, int kRows, int kColumns>
__device__ inline void append_survivors(const Pass& pass, const Piece& piece, const float (&sums)[kRows][kColumns][4],
                                        uint32_t vector, int query, uint32_t end) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  vector += static_cast<uint32_t>(lane / 4);
  const auto position_of = [&](int row) { return vector + static_cast<uint32_t>(row / 2 * kRowStep + row % 2 * 8); };
  float half_norm[2 * kRows], norm[2 * kRows], error[2 * kRows];
#pragma unroll
  for (int row = 0; row < 2 * kRows; ++row) {
    const uint32_t position = position_of(row) < end ? position_of(row) : 0;
    const float* terms = piece.terms + int64_t{position / kBlock} * kPackedTerms * kBlock + position % kBlock;
    half_norm[row] = terms[kPackedHalfNorm * kBlock];
    norm[row] = terms[kPackedNorm * kBlock];
    error[row] = terms[kPackedError * kBlock];
  }
#pragma unroll
  for (int column = 0; column < kColumns; ++column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int q = query + column * 8 + lane % 4 * 2 + i;
      const ScreenQuery factors = pass.bounds[q];
      bool any = false;
      bool survives[2 * kRows];
#pragma unroll
      for (int row = 0; row < 2 * kRows; ++row) {
        const float dot = sums[row / 2][column][row % 2 * 2 + i];
        const float bound = dot + norm[row] * factors.norm_factor + error[row] * factors.error_factor - half_norm[row];
        survives[row] = !(bound < factors.threshold);
        any = any || survives[row];
      }
      if (!any || factors.threshold != factors.threshold) continue;
#pragma unroll
      for (int row = 0; row < 2 * kRows; ++row) {
        if (!survives[row] || position_of(row) >= end) continue;
        const int slot = atomicAdd(pass.counts + q, 1);
        if (slot < pass.list_length) {
          pass.lists[static_cast<int64_t>(q) * pass.list_length + slot] = Key{position_of(row)};
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyhue::cuda
