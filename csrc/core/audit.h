// The certificate: where each vector is dropped when the k-th distances are known.
#pragma once

#include <cstdint>

#include "core/executor.h"
#include "core/memory.h"
#include "core/tiles.h"

namespace pyhue {

// distances (count,): of each query, the k-th. By query and row of the piece's vectors (count, rows): `ends`, how many
// coordinates were read when it was dropped, or 0 where it was kept or is not in the piece; `bounds`, of the squared
// distance from below, that of the last stage that was tested, -infinity where it is not in the piece. A pair's stages
// are all tested, in the order of their ends.
void audit(const Piece& piece, int dim, const Layout& layout, const Queries& queries, int64_t count, int64_t rows,
           const float* distances, int32_t* ends, float* bounds, const Executor& executor);

}  // namespace pyhue
