// Compiled once for each instruction-set level, with PYHUE_LEVEL naming it. A new kernel is a header
// *_kernel.h, included here, and a member of the table.
#include "core/kernels.h"

#include "core/density_kernel.h"
#include "core/distance_kernel.h"
#include "core/hue_cross_entropy_kernel.h"
#include "core/pack_kernel.h"
#include "core/project_kernel.h"
#include "core/screen_kernel.h"

namespace pyhue {
namespace PYHUE_LEVEL {

const Kernels table = {
    .project_tile = project_tile,
    .center = center,
    .quantize = quantize,
    .round_coordinates = round_coordinates,
    .tile_queries = kTileQueries,
    .int8_limit = kInt8Limit,
    .sum_limit = kSumLimit,
    .byte_offset = kByteOffset,
    .screen_block = screen_block,
    .bound_block = bound_block,
    .kth_largest = kth_largest,
    .not_below = not_below,
    .screen_rows = screen_rows,
    .squared_distance = squared_distance_to<float>,
    .squared_distance_bfloat16 = squared_distance_to<uint16_t>,
    .density_pull = {density_pull<float>, density_pull<uint16_t>},
    .density_distance = {density_distance<float>, density_distance<uint16_t>},
    .hue_cross_entropy = {hue_cross_entropy<float>, hue_cross_entropy<double>, hue_cross_entropy<Bfloat16>,
                          hue_cross_entropy<Half>},
    .hue_label_gradient = {hue_label_gradient<float>, hue_label_gradient<double>, hue_label_gradient<Bfloat16>,
                           hue_label_gradient<Half>},
};

}  // namespace PYHUE_LEVEL
}  // namespace pyhue
