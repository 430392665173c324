// The screening kernel for any tensor core that multiplies bfloat16; search.h says what it is for. Included by
// search.cu only.
#pragma once

#include "cuda/screen.h"

namespace pyhue::cuda {
namespace {

constexpr int kMmaVectors = 128;  // of a tile
constexpr int kMmaLargestTile = 128;
constexpr int kMmaStages = 3;  // each a slab of a tile: of its queries, then of its vectors

constexpr int64_t mma_stage_bytes(int queries) { return (queries + kMmaVectors) * kRowBytes; }

template <int kQueries>
__device__ inline void load_stage(const Pass& pass, const Piece& piece, unsigned char* stage, int slab, int query,
                                  int64_t vector) {
  constexpr int kPieces = kTileBytes / kPieceBytes;
  const int64_t blocks = (piece.n + kBlock - 1) / kBlock;
  for (int i = static_cast<int>(threadIdx.x); i < (kQueries + kMmaVectors) / kBlock * kPieces; i += kThreads) {
    const int tile = i / kPieces - kQueries / kBlock;  // below 0: of queries
    const int64_t block = tile < 0 ? query / kBlock + i / kPieces : vector / kBlock + tile;
    const bool valid = tile < 0 || block < blocks;
    const uint16_t* from = tile < 0 ? pass.coordinates : piece.blocks;
    if (valid) from += packed_offset(block * kBlock, slab * kSlab, pass.slabs) + i % kPieces * kPieceValues;
    copy_async(stage + i * kPieceBytes, from, valid);
  }
}

// A block: kQueries queries against kMmaVectors vectors of begin .. end-1; blocks that share vectors are neighbours, so
// that the second-level cache serves all but one of them. Warps: 4 x 2, each 32 vectors x kQueries / 2.
template <int kQueries>
__global__ void __launch_bounds__(kThreads, 2) screen_mma(Pass pass, Piece piece, int64_t begin, int64_t end) {
  constexpr int kColumns = kQueries / 16;
  const int query_tiles = pass.padded / kQueries;
  const int query = static_cast<int>(blockIdx.x % static_cast<unsigned>(query_tiles)) * kQueries;
  const int64_t vector = begin + static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(query_tiles)) * kMmaVectors;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_vector = warp % 4 * 32, warp_query = warp / 4 * (kQueries / 2);
  unsigned char* shared = dynamic_tiles();

  const auto load = [&](int slab) {
    unsigned char* stage = shared + slab % kMmaStages * mma_stage_bytes(kQueries);
    if (slab < pass.slabs) load_stage<kQueries>(pass, piece, stage, slab, query, vector);
    commit_copies();  // an empty group keeps the count
  };
  for (int slab = 0; slab < kMmaStages - 1; ++slab) load(slab);
  float sums[2][kColumns][4] = {};
  for (int slab = 0; slab < pass.slabs; ++slab) {
    wait_copies<kMmaStages - 2>();
    __syncthreads();  // everybody's copies have landed, and nobody reads the stage that is loaded next
    load(slab + kMmaStages - 1);
    const unsigned char* queries = shared + slab % kMmaStages * mma_stage_bytes(kQueries);
    const unsigned char* vectors = queries + kQueries * kRowBytes;
#pragma unroll
    for (int k = 0; k < kSlab / kPieceValues; k += 2) {
      uint32_t a[2][4];
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        load_matrices(a[row], vectors + piece_offset(warp_vector + row * 16 + lane % 16, k + lane / 16));
      }
#pragma unroll
      for (int column = 0; column < kColumns; column += 2) {
        uint32_t b[4];
        const int row = warp_query + column * 8 + lane / 16 * 8 + lane % 8;
        load_matrices(b, queries + piece_offset(row, k + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < 4; ++i)
          multiply_matrices(sums[i / 2][column + i % 2], a[i / 2], b[i % 2 * 2], b[i % 2 * 2 + 1]);
      }
    }
  }
  wait_copies<0>();
  append_survivors(pass, piece, ScreenVectors<16, 2>(piece, vector + warp_vector, end), sums, query + warp_query);
}

}  // namespace
}  // namespace pyhue::cuda
