// What the projection kernels of each level take; project.cpp drives them. All give the same bits at every level.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kProjectVectors = 6;
constexpr int kPanel = 64;          // rows of the rotation whose coordinates lie side by side
constexpr int kProjectTerms = 128;  // products in one sum: a run; even
// Norms of a run: the product of two fits 31 bits, and with it every sum of products, by Cauchy-Schwarz.
constexpr int kRunNorm = 46340;

// dots[a][b] = <vectors[a], row b of the panel>; panel (pairs, kPanel, 2). Of each run an exact sum of integers; these
// are added up in order, in float32.
using ProjectTile = void (*)(const int16_t* const* vectors, const int16_t* panel, int64_t pairs, float (*dots)[kPanel]);

constexpr int kDoubleSums = 8;  // that a squared norm in float64 is the sum of

struct Centered {
  double squared_norm;
  double largest;      // size of a value
  double largest_run;  // squared norm of kProjectTerms values, from a multiple of them on
};

// values (dim,) = x - center.
using Center = Centered (*)(const float* x, const double* center, int64_t dim, double* values);

// to (dim,) = values * factor, the nearest integers, which 16 bits hold; returns their squared norm, which is exact.
using Quantize = double (*)(const double* values, double factor, int64_t dim, int16_t* to);

}  // namespace pyhue
