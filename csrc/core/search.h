// Exact k-nearest-neighbour search.
//
// For each query, the k memory vectors of smallest squared Euclidean distance; the distance is sum (q - x)^2
// over the stored vectors as Kernels::squared_distance computes it, ties go to the lower index. Results are
// sorted and do not depend on the number of workers, on the batch, on k, on the instruction-set level, on the
// pieces or on the packed form: that form may drop a vector only by a bound that holds with rounding included (pack.h).
//
//     blocks --screen a tile of queries--> survivors --rows--> fewer --distance--> k best of each query
//
// Where pieces have clusters, the nearest vectors of those nearest to each query are looked for first, so that the
// threshold of all further screening is nearly final when the pass over all pieces begins (near_clusters.h, pass.h).
// Where no threshold is known, the first blocks give one (first_blocks.h).
#pragma once

#include <cstdint>
#include <span>

#include "core/executor.h"
#include "core/memory.h"
#include "core/selection.h"
#include "core/tiles.h"
#include "core/work.h"

namespace pyhue {

// distances, indices: (count, k). Where the pieces have fewer than k vectors: index -1, distance +inf.
// dim: 1 .. 4096; `layout` is that of every packed piece and of the queries' coordinates.
// Returns false when interrupted; the outputs are then meaningless. `work` may be null, else what was done is added.
// `limits` (count,): distances that nothing farther than is wanted, for instance because so many nearer vectors were
// found elsewhere; null: the nearest clusters give them. Vectors at a limit are found.
// Scratch memory: for at most 1,008 queries at a time, workers x k entries of 16 bytes each and their coordinates in
// int8; independent of n x queries.
bool search(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
            int64_t k, const float* limits, float* distances, int64_t* indices, Work* work, const Executor& executor);

// The same among the vectors that `chosen` has: what a memory of these alone would answer, with their numbers here.
// Each is asked for when it has survived the first filter, so this costs a whole search: for few vectors, pass these as
// a piece that is not packed.
bool search_chosen(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                   int64_t k, const Chosen& chosen, const float* limits, float* distances, int64_t* indices, Work* work,
                   const Executor& executor);

// What a search begins with: the k smallest distances of each query to vectors of its nearest clusters that may be
// found, ascending, +inf where these have fewer: distances (count, k).
bool near_distances(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                    int64_t k, const Chosen& chosen, float* distances, const Executor& executor);

}  // namespace pyhue
