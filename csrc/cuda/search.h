// Exact k-nearest-neighbour search on the GPU: the same neighbours, distances and order as csrc/core/search.h.
//
//     chunk of the memory --screen: bfloat16 tiles--> candidates --refine: float32 distance--> --merge--> k best
//
// The screen multiplies bfloat16 coordinates on the tensor cores and tests the bound of core/pack.h where the sums lie:
// no matrix of distances is written. What it cannot drop is appended to the query's list; the refine computes the
// distance in the order of SquaredDistance (search_kernel_types.h); the merge keeps the k best and sets the threshold
// for the next chunk, which is 7 times as long as all before. The order in which candidates come decides nothing.
//
// A list that overflows is thrown away, and its query's chunk is searched vector by vector: slow, but exact.
//
// Nothing waits for the device and nothing is allocated: a call is a sequence of launches that depends on shapes alone.
// Cost: 2 n dim queries operations, and the packed memory read once for each 64 or 128 queries, from the second-level
// cache but for the first time.
#pragma once

#include <cstdint>

#include "core/search_kernel_types.h"
#include "cuda/stream.h"

namespace pyhue::cuda {

// Coordinates are vectors less the centre. Position and index are the same.
enum PackedTerm { kPackedHalfNorm, kPackedNorm, kPackedError, kPackedTerms };

struct Memory {
  const void* vectors;  // (n, dim) float32 or bfloat16, row-major
  bool bfloat16;
  int64_t n;  // below 2^31
  int dim;
  const uint16_t* blocks;  // (ceil(n / kBlock), dim, kBlock) bfloat16: rounded coordinates
  const float* terms;      // (ceil(n / kBlock), kPackedTerms, kBlock): see BoundTerm
  const double* center;    // (dim,)
};

// Writes blocks and terms of all vectors.
void pack(const Memory& memory, uint16_t* blocks, float* terms, cudaStream_t stream);

int64_t search_scratch_bytes(int64_t queries, int64_t k, int dim);

// queries (count, dim) float32, row-major; distances and indices (count, k), k at most kMaxK. Where the memory has
// fewer than k vectors: index -1, distance +inf. A query that holds a NaN or an infinity: index -1, distance NaN.
void search(const Memory& memory, const float* queries, int64_t count, int64_t k, float* distances, int64_t* indices,
            void* scratch, cudaStream_t stream);

}  // namespace pyhue::cuda
