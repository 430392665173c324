// What the projection kernel of each level takes; project.cpp drives it.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kProjectTile = 4;

// dots[a][b] = <vectors[a], rows[b]> over dim values, in float64. Sixteen sums share each value that is loaded.
using ProjectTile = void (*)(const double* const* vectors, const double* const* rows, int64_t dim,
                             double (*dots)[kProjectTile]);

}  // namespace pyhue
