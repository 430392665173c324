// Search of some clusters: of each query, the k nearest of the vectors in clusters that it names, and of those in
// pieces that have no clusters. Distances, ties and order are those of search.h, whatever the batch, the workers and
// the level: what a query does not name it does not see, though others of its batch read it.
//
//     cluster --for all queries that name it--> screen, rows, distance --> k best of each query
//
// A cluster is read once for each pass of at most 1,008 queries.
#pragma once

#include <cstdint>
#include <span>

#include "core/executor.h"
#include "core/memory.h"
#include "core/selection.h"
#include "core/tiles.h"
#include "core/work.h"

namespace pyhue {

// Which clusters a query names: those whose score is not above its limit.
struct Visits {
  const double* scores;    // (queries, clusters)
  int64_t clusters;        // as many as each piece has that has any
  const double* limits;    // (queries,)
  const float* distances;  // (queries,): no vector farther than this is among the k nearest of those; +infinity
};

// As search_chosen (search.h), of the clusters that `visits` names; those of the queries themselves are not read.
bool search_visited(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                    int64_t k, const Visits& visits, const Chosen& chosen, float* distances, int64_t* indices,
                    Work* work, const Executor& executor);

}  // namespace pyhue
