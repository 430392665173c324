// The screening kernel for Hopper's tensor cores; search.h says what it is for. Included by search.cu only.
//
// A block stays on its multiprocessor and takes one tile after the other. One thread copies, in bulk and up to four
// stages ahead, also into the next tile; two warpgroups multiply straight from shared memory, each its own vectors, and
// test their sums while copies and the other's products go on.
#pragma once

#include "cuda/hopper.h"
#include "cuda/screen.h"

namespace pyhue::cuda {
namespace {

constexpr int kWgmmaLargestTile = 256;
constexpr int kWgmmaStages = 4;        // each a slab of a tile: of its queries, then of its vectors
constexpr int kMultiplyThreads = 256;  // two warpgroups; a warp that copies follows
constexpr int kWgmmaThreads = kMultiplyThreads + 32;

// Of a tile: few queries leave registers for more vectors, which have to come from memory.
constexpr int wgmma_vectors(int queries) { return queries == kWgmmaLargestTile ? 128 : 256; }
constexpr int wgmma_stage_bytes(int queries) { return (queries + wgmma_vectors(queries)) * kRowBytes; }
constexpr int64_t wgmma_shared_bytes(int queries) {
  return kWgmmaStages * (wgmma_stage_bytes(queries) + 2 * static_cast<int64_t>(sizeof(Barrier)));
}

#if PYHUE_HOPPER
// Stages in use, in a ring; `full` and `empty` say which, and their phases alternate.
struct Ring {
  unsigned char* stages;
  Barrier *full, *empty;
  int stage_bytes, stage = 0;
  unsigned phase = 0;

  __device__ unsigned char* bytes() const { return stages + stage * stage_bytes; }
  __device__ void advance() {
    stage = stage + 1 < kWgmmaStages ? stage + 1 : 0;
    phase ^= stage == 0;
  }
};

template <int kQueries>
__device__ inline void copy_tile(const Pass& pass, const Piece& piece, Ring& ring, int query, int64_t vector) {
  const int64_t left = (piece.n - vector + kBlock - 1) / kBlock, most = wgmma_vectors(kQueries) / kBlock;
  const int blocks = static_cast<int>(left < most ? left : most);  // what is missing is never looked at
  for (int slab = 0; slab < pass.slabs; ++slab) {
    wait_for_phase(ring.empty[ring.stage], ring.phase ^ 1);
    Barrier& full = ring.full[ring.stage];
    arrive_expecting(full, (kQueries / kBlock + blocks) * kTileBytes);
    for (int i = 0; i < kQueries / kBlock; ++i) {
      const uint16_t* from = pass.coordinates + packed_offset(query + i * kBlock, slab * kSlab, pass.slabs);
      copy_bulk(ring.bytes() + i * kTileBytes, from, kTileBytes, full);
    }
    for (int i = 0; i < blocks; ++i) {
      const uint16_t* from = piece.blocks + packed_offset(vector + i * kBlock, slab * kSlab, pass.slabs);
      copy_bulk(ring.bytes() + kQueries * kRowBytes + i * kTileBytes, from, kTileBytes, full);
    }
    ring.advance();
  }
}

// `group`: which of the two. Its vectors are kRows times 64.
template <int kQueries>
__device__ inline void multiply_tile(const Pass& pass, const Piece& piece, Ring& ring, int group, int query,
                                     int64_t vector, int64_t end) {
  constexpr int kRows = wgmma_vectors(kQueries) / 128;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  // Loaded before the products, it is there when they are.
  const ScreenVectors<64, kRows> vectors_of_lane(piece, vector + group * kRows * 64 + warp * 16, end);
  float sums[kRows][kQueries / 8][4];
  __syncwarp();  // together again, as the products require
  for (int slab = 0; slab < pass.slabs; ++slab) {
    wait_for_phase(ring.full[ring.stage], ring.phase);
    const uint64_t queries = tile_descriptor(ring.bytes());
    begin_products();
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const uint64_t vectors =
          tile_descriptor(ring.bytes() + kQueries * kRowBytes + (group * kRows + row) * kTileBytes);
#pragma unroll
      for (int k = 0; k < kSlab / kProductDims; ++k) {
        multiply_tiles(sums[row], step(vectors, k), step(queries, k), slab + k > 0);
      }
    }
    commit_products();
    wait_products(sums);
    if (lane == 0) arrive(ring.empty[ring.stage]);
    ring.advance();
  }
  append_survivors(pass, piece, vectors_of_lane, sums, query);
}
#endif

// Queries are padded to whole tiles; begin .. end-1 of the piece are screened. Tiles that share vectors are taken by
// neighbours at the same time, so that the second-level cache serves all but one of them.
template <int kQueries>
__global__ void __launch_bounds__(kWgmmaThreads, 1) screen_wgmma(Pass pass, Piece piece, int64_t begin, int64_t end) {
#if PYHUE_HOPPER
  constexpr int kVectors = wgmma_vectors(kQueries);
  unsigned char* stages = dynamic_tiles();
  Barrier* full = reinterpret_cast<Barrier*>(stages + kWgmmaStages * wgmma_stage_bytes(kQueries));
  Ring ring{stages, full, full + kWgmmaStages, wgmma_stage_bytes(kQueries)};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kWgmmaStages; ++stage) {
      start_barrier(ring.full[stage], 1);
      start_barrier(ring.empty[stage], kMultiplyThreads / 32);
    }
    show_barriers();
  }
  __syncthreads();
  const int query_tiles = pass.padded / kQueries;
  const int tiles =
      static_cast<int>((end - begin + kVectors - 1) / kVectors) * query_tiles;  // 2^31 / 128 * 4,096 / 256
  const int thread = static_cast<int>(threadIdx.x);
  if (thread > kMultiplyThreads) return;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const int query = tile % query_tiles * kQueries;
    const int64_t vector = begin + int64_t{tile / query_tiles} * kVectors;
    if (thread == kMultiplyThreads) {
      copy_tile<kQueries>(pass, piece, ring, query, vector);
    } else {
      multiply_tile<kQueries>(pass, piece, ring, thread / 128, query, vector, end);
    }
  }
#else
  __trap();  // has_hopper_kernels() is wrong: better an error than no neighbours
#endif
}

}  // namespace
}  // namespace pyhue::cuda
