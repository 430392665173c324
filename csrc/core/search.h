// Exact k-nearest-neighbour search.
//
// For each query, the k memory vectors of smallest squared Euclidean distance; the distance is sum (q - x)^2
// over the stored vectors as Kernels::squared_distance computes it, ties go to the lower index. Results are
// sorted and do not depend on the number of workers, on the batch, on k, on the instruction-set level or on
// the packed form: that form may drop a vector only by a bound that holds with rounding included (pack.h).
//
//     blocks --screen a tile of queries--> survivors --rows--> fewer --distance--> k best of each query
//
// First each tile visits the clusters nearest to its queries, so that the k-th distance found so far, the
// threshold of all further screening, is nearly final when the pass over the whole memory begins.
#pragma once

#include <cstdint>

#include "core/executor.h"
#include "core/pack.h"
#include "core/tiles.h"

namespace pyhue {

struct Memory {
  const float* vectors;           // (n, dim) float32, row-major
  int64_t n;
  int dim;                        // 1 .. 4096
  Layout layout;
  PackedMemory packed;            // of n positions
  const int64_t* order;           // (n,) the vector at each position
  const int64_t* cluster_starts;  // (clusters + 1,) position of each cluster's first vector; null: none
};

// distances, indices: (queries, k). Where the memory has fewer than k vectors: index -1, distance +inf.
// Returns false when interrupted; the outputs are then meaningless.
// Scratch memory: for at most 1,008 queries at a time, workers x k entries of 16 bytes each, their
// coordinates in bfloat16 and n / 64 bytes for each tile of 7; independent of n x queries otherwise.
bool search(const Memory& memory, const Queries& queries, int64_t count, int64_t k, float* distances,
            int64_t* indices, const Executor& executor);

// The certificate, for tests: which stage drops each vector when the k-th distance of query q is distances[q].
// stages (queries, n) by vector: 0 dropped by the blocks, 1 by the rows, 2 kept.
void audit(const Memory& memory, const Queries& queries, int64_t count, const float* distances, uint8_t* stages,
           const Executor& executor);

}  // namespace pyhue
