// What the projection kernel of each level takes; project.cpp drives it.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kProjectVectors = 6;
constexpr int kPanel = 64;         // rows of the rotation whose coordinates lie side by side
constexpr int kProjectTerms = 32;  // products in one sum; sums are added up

// dots[a][b] = <vectors[a], row b of the panel>, in float32; panel (dim, kPanel). An entry is a sum of ceil(dim /
// kProjectTerms) sums in order, each of products in order.
using ProjectTile = void (*)(const float* const* vectors, const float* panel, int64_t dim, float (*dots)[kPanel]);

constexpr int kDoubleSums = 8;  // that a squared norm in float64 is the sum of

// values (dim,) = x - center; returns its squared norm, and the largest size in `largest`. The same bits at every
// level.
using Center = double (*)(const float* x, const double* center, int64_t dim, double* values, double* largest);

// to (dim,) = values * factor, rounded.
using Narrow = void (*)(const double* values, double factor, int64_t dim, float* to);

}  // namespace pyhue
