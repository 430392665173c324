// The table of kernels that every instruction-set level provides; kernels.cpp fills it.
#pragma once

#include "core/density_kernel_types.h"
#include "core/distance_kernel_types.h"
#include "core/hue_cross_entropy_kernel_types.h"
#include "core/pack_kernel_types.h"
#include "core/project_kernel_types.h"
#include "core/screen_kernel_types.h"

namespace pyhue {

struct Kernels {
  // See project_kernel_types.h.
  ProjectTile project_tile;
  Center center;
  Quantize quantize;
  // See pack_kernel_types.h.
  RoundCoordinates round_coordinates;
  // Search: see screen_kernel_types.h and distance_kernel_types.h.
  int tile_queries;
  int int8_limit;   // of the size of a query's coordinates
  int sum_limit;    // of the sum of the sizes of kSumCoordinates of them
  int byte_offset;  // what stored bytes are more than their values when they are multiplied
  ScreenBlock screen_block;
  BoundBlock bound_block;
  KthLargest kth_largest;
  NotBelow not_below;
  ScreenRows screen_rows;
  SquaredDistance squared_distance;
  SquaredDistance squared_distance_bfloat16;
  // Density, of float32 and of bfloat16: see density_kernel_types.h.
  DensityPullKernel density_pull[2];
  DensityDistanceKernel density_distance[2];
  // Hue cross-entropy, by ElementType: see hue_cross_entropy_kernel_types.h.
  HueCrossEntropyKernel hue_cross_entropy[kElementTypes];
  HueLabelGradientKernel hue_label_gradient[kElementTypes];
};

namespace generic {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avxvnni {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
namespace avx512vnni {
extern const Kernels table;
}
namespace neon {
extern const Kernels table;
}
namespace neondotprod {
extern const Kernels table;
}
namespace neoni8mm {
extern const Kernels table;
}

}  // namespace pyhue
