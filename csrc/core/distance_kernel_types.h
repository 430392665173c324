// The distance that search returns, of each level. Plain types, no standard library.
#pragma once

namespace pyhue {

// sum (q_i - x_i)^2 in float32 and in a fixed order, the same at every level: 32 partial sums (element i goes
// to sum i mod 32, every operation rounded), then halved five times. The distance that search returns. One
// kernel takes x as float32, one as bfloat16.
using SquaredDistance = float (*)(const float* q, const void* x, int dims);

}  // namespace pyhue
