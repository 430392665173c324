// Compiled once for each instruction-set level, with PYHUE_LEVEL naming it. A new kernel is a header
// *_kernel.h, included here, and a member of the table.
#include "core/kernels.h"

#include "core/search_kernel.h"

namespace pyhue {
namespace PYHUE_LEVEL {

const Kernels table = {
    .tile_queries = kTileQueries,
    .panel_element_size = kPanelElementSize,
    .screen_tile = screen_tile,
    .row_dot = row_dot,
    .squared_distance = squared_distance,
};

}  // namespace PYHUE_LEVEL
}  // namespace pyhue
