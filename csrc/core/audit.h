// The certificate, for tests: which filter drops each vector when the k-th distances are known.
#pragma once

#include <cstdint>

#include "core/executor.h"
#include "core/memory.h"
#include "core/tiles.h"

namespace pyhue {

// distances (count,): of each query, the k-th. stages (count, rows) by row of the piece's vectors: 0 dropped by the
// blocks or not in the piece, 1 dropped by the rows, 2 kept. Returns how many dimensions of the blocks the tiles read,
// on average.
double audit(const Piece& piece, int dim, const Layout& layout, const Queries& queries, int64_t count, int64_t rows,
             const float* distances, uint8_t* stages, const Executor& executor);

}  // namespace pyhue
