// Exact k-nearest-neighbour search.
//
// For each query, the k memory vectors of smallest squared Euclidean distance; the distance is
// sum (q - x)^2 over the stored vectors as Kernels::squared_distance computes it, ties go to the lower
// index. Results are sorted and do not depend on the number of workers, on the batch, on k, on the level
// or on the packed form: that form may drop a vector only by a bound that holds with rounding included.
//
// A pass takes the packed memory in chunks that fit the cache. In each, every tile of queries is screened
// against every block; the few survivors get their distance and enter the query's heap, whose worst member
// is the threshold of the next screening.
#pragma once

#include <cstdint>

#include "core/executor.h"
#include "core/pack.h"

namespace pyhue {

struct SearchMemory {
  const float* vectors;    // (n, dim) float32, row-major
  const uint16_t* blocks;  // packed, see pack.h
  const float* bounds;
  int64_t n;
  int dim;     // 1 .. 4096
  int prefix;  // coordinates in the packed form, 1 .. dim
};

struct SearchQueries {
  const float* vectors;      // (n, dim) float32, row-major
  const uint16_t* prefixes;  // (n, padded(prefix)) bfloat16
  const PackedQuery* packed;
  int64_t n;
};

// distances, indices: (queries.n, k). Where the memory has fewer than k vectors: index -1, distance +inf.
// Returns false when interrupted; the outputs are then meaningless.
// Scratch memory: workers x min(n, 1008) x k entries of 16 bytes, and the prefixes of 1,008 queries once more.
bool search(const SearchMemory& memory, const SearchQueries& queries, int64_t k, float* distances, int64_t* indices,
            const Executor& executor);

}  // namespace pyhue
