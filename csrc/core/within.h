// Exact range search: all memory vectors whose distance, as search.h defines it, is at most a radius.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/executor.h"
#include "core/memory.h"
#include "core/selection.h"
#include "core/tiles.h"

namespace pyhue {

// Query i found places limits[i] .. limits[i + 1] - 1, nearer first, ties by index.
struct Found {
  std::vector<int64_t> limits;
  std::vector<float> distances;
  std::vector<int64_t> indices;
};

// Pieces and queries as for `search`. Returns false when interrupted; `found` is then meaningless.
// Memory: 12 bytes for each result, and 16 for those of 1,008 queries at a time.
bool within(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
            float radius, const Chosen& chosen, Found& found, const Executor& executor);

}  // namespace pyhue
