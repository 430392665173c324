// The screening kernel; search.h says what it is for. Included by search.cu only.
#pragma once

#include "cuda/search_kernels.h"

namespace pyhue::cuda {
namespace {

// A stage of the pipeline holds kSlab dimensions of a tile: a row of 64 values for each query, and for each of the two
// blocks of memory vectors a row of 64 vectors for each dimension. Rows are 128 bytes, as wide as all banks; their
// 16-byte pieces are permuted by the row, so that the 8 rows of a matrix lie in different banks.
__device__ inline unsigned char* piece_of(unsigned char* rows, int row, int piece) {
  return rows + row * kRowBytes + ((piece ^ (row & 7)) * 16);
}

template <int kQueries>
__device__ inline void load_stage(const Pass& pass, unsigned char* stage, int slab, int query, int64_t block,
                                  int64_t blocks) {
  const int thread = static_cast<int>(threadIdx.x), dim = pass.memory.dim;
  for (int i = thread; i < kQueries * 8; i += kThreads) {
    const uint16_t* row = pass.coordinates + static_cast<int64_t>(query + i / 8) * pass.padded_dims;
    copy_async(piece_of(stage, i / 8, i % 8), row + slab * kSlab + i % 8 * 8, true);
  }
  unsigned char* vectors = stage + kQueries * kRowBytes;
  for (int i = thread; i < 2 * kSlab * 8; i += kThreads) {
    const int row = i / 8, d = slab * kSlab + row % kSlab;
    const int64_t b = block + row / kSlab;
    const bool valid = d < dim && b < blocks;
    const uint16_t* from = pass.memory.blocks + (valid ? (b * dim + d) * kBlock + i % 8 * 8 : 0);
    copy_async(piece_of(vectors, row, i % 8), from, valid);
  }
}

// Appends what the bound does not exclude to the lists. A warp's sums: fragments of 16 x 8 from `query` and, within
// the tile of vectors that begins at `tile`, from `lane_of_tile` on.
template <int kRows>
__device__ inline void append_survivors(const Pass& pass, const float (&sums)[kRows][4][4], int query, int64_t tile,
                                        int vector, int64_t end) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t block = tile / kBlock + vector / kBlock;
  const float* terms = pass.memory.terms + block * kPackedTerms * kBlock + vector % kBlock;
#pragma unroll
  for (int column = 0; column < 4; ++column) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int place = column * 8 + lane % 4 * 2 + i;
      const int64_t index = tile + vector + place;
      if (index >= end) continue;
      const float half_norm = terms[kPackedHalfNorm * kBlock + place], norm = terms[kPackedNorm * kBlock + place];
      const float error = terms[kPackedError * kBlock + place];
#pragma unroll
      for (int row = 0; row < 2 * kRows; ++row) {
        const int q = query + row * 8 + lane / 4;
        const ScreenQuery factors = pass.bounds[q];
        const float dot = sums[row / 2][column][row % 2 * 2 + i];
        const float bound = dot + norm * factors.norm_factor + error * factors.error_factor - half_norm;
        if (!(bound < factors.threshold) && factors.threshold == factors.threshold) {
          const int slot = atomicAdd(pass.counts + q, 1);
          if (slot < pass.list_length) {
            pass.lists[static_cast<int64_t>(q) * pass.list_length + slot] = static_cast<Key>(index);
          }
        }
      }
    }
  }
}

// A block: kQueries queries against kTileVectors vectors of begin .. end-1; blocks that share vectors are neighbours,
// so that the second-level cache serves all but one of them. Warps: 2 x 4, each kQueries / 2 x 32 sums.
template <int kQueries>
__global__ void __launch_bounds__(kThreads, 2) screen(Pass pass, int64_t begin, int64_t end) {
  constexpr int kRows = kQueries / 32;  // fragments of a warp, of 16 queries
  constexpr int64_t kStageBytes = (kQueries + 2 * kSlab) * kRowBytes;
  const int query_tiles = pass.padded / kQueries;
  const int query = static_cast<int>(blockIdx.x % static_cast<unsigned>(query_tiles)) * kQueries;
  const int64_t tile = begin + static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(query_tiles)) * kTileVectors;
  const int64_t blocks = (pass.memory.n + kBlock - 1) / kBlock;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_query = warp / 4 * (kQueries / 2), warp_vector = warp % 4 * 32;
  unsigned char* shared = dynamic_shared();
  const int slabs = pass.padded_dims / kSlab;

  const auto load = [&](int slab) {
    if (slab < slabs) {
      load_stage<kQueries>(pass, shared + slab % kStages * kStageBytes, slab, query, tile / kBlock, blocks);
    }
    commit_copies();  // an empty group keeps the count
  };
  for (int slab = 0; slab < kStages - 1; ++slab) load(slab);
  float sums[kRows][4][4] = {};
  for (int slab = 0; slab < slabs; ++slab) {
    wait_copies<kStages - 2>();
    __syncthreads();  // everybody's copies have landed, and nobody reads the stage that is loaded next
    load(slab + kStages - 1);
    unsigned char* queries = shared + slab % kStages * kStageBytes;
    unsigned char* vectors = queries + (kQueries + warp_vector / kBlock * kSlab) * kRowBytes;
#pragma unroll
    for (int k = 0; k < kSlab; k += 16) {
      uint32_t a[kRows][4], b[2][4];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        load_matrices<false>(a[row], piece_of(queries, warp_query + row * 16 + lane % 16, k / 8 + lane / 16));
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int piece = warp_vector % kBlock / 8 + half * 2 + lane / 16;
        load_matrices<true>(b[half], piece_of(vectors, k + lane % 16, piece));
      }
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
#pragma unroll
        for (int column = 0; column < 4; ++column) {
          multiply_matrices(sums[row][column], a[row], b[column / 2][column % 2 * 2],
                            b[column / 2][column % 2 * 2 + 1]);
        }
      }
    }
  }
  wait_copies<0>();
  append_survivors<kRows>(pass, sums, query + warp_query, tile, warp_vector, end);
}

}  // namespace
}  // namespace pyhue::cuda
