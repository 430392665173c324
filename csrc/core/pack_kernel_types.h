// What the rounding kernel of each level takes; pack.cpp drives it.
#pragma once

#include <stdint.h>

namespace pyhue {

constexpr int kSquares = 8;  // sums that every squared norm is the sum of

// Squared norms of a vector's coordinates: as they are, weighted, and of what rounding changed in them.
struct Squares {
  double exact[kSquares], weighted[kSquares], error[kSquares];
};

// What coordinates count in.
struct Steps {
  const double *steps, *inverses, *squared_weights;
};

// Bytes of coordinates begin .. end - 1, the nearest multiples of their steps, 127 at most, plus 128; adds to the
// squares. `begin` is a multiple of kSquares. The same bits at every level.
using RoundCoordinates = void (*)(const double* values, const Steps& steps, int begin, int end, uint8_t* bytes,
                                  Squares* squares);

}  // namespace pyhue
