// How bfloat16 coordinates lie in memory, of stored vectors and of queries alike: as the matrix instructions read them,
// so that a tile moves to shared memory as it is, one copy of contiguous bytes.
//
// A tile is kBlock vectors x kSlab dimensions, a row of 128 bytes for each vector; the 16-byte pieces of a row are
// permuted by the row, so that the same piece of 8 rows lies in different banks: Hopper's 128-byte swizzle, which its
// matrix instructions undo. The tiles of a block of vectors follow each other, dimensions padded with zeros to whole
// slabs.
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "core/screen_kernel_types.h"

namespace pyhue::cuda {

constexpr int kSlab = 64;                          // dimensions of a tile
constexpr int kRowBytes = kSlab * 2;               // of a tile
constexpr int kTileBytes = kBlock * kRowBytes;     // a multiple of 1,024, at which a tile must be aligned
constexpr int kPieceValues = 8, kPieceBytes = 16;  // of a row

PYHUE_HOST_DEVICE constexpr int slabs_of(int dim) { return (dim + kSlab - 1) / kSlab; }

// Where a piece of a row lies in its tile, in bytes.
PYHUE_HOST_DEVICE constexpr int piece_offset(int row, int piece) {
  return row * kRowBytes + (piece ^ (row & 7)) * kPieceBytes;
}

// Where a coordinate lies, counted in coordinates.
PYHUE_HOST_DEVICE constexpr int64_t packed_offset(int64_t vector, int dimension, int slabs) {
  const int64_t tile = vector / kBlock * slabs + dimension / kSlab;
  const int row = static_cast<int>(vector % kBlock), column = dimension % kSlab;
  return tile * (kTileBytes / 2) + piece_offset(row, column / kPieceValues) / 2 + column % kPieceValues;
}

}  // namespace pyhue::cuda
