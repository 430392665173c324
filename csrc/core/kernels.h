// The table of kernels that every instruction-set level provides; kernels.cpp fills it.
#pragma once

#include "core/search_kernel_types.h"

namespace pyhue {

struct Kernels {
  // Search: see search_kernel_types.h.
  int tile_queries;
  int panel_element_size;
  ScreenTile screen_tile;
  RowDot row_dot;
  SquaredDistance squared_distance;
};

namespace generic {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
namespace avx512bf16 {
extern const Kernels table;
}

}  // namespace pyhue
