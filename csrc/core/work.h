// What a pass did, counted: how much of all pairs of a query and a vector it read.
#pragma once

#include <cstdint>

namespace pyhue {

struct Work {
  int64_t pairs = 0;        // met by the first filter, or compared without it
  int64_t coordinates = 0;  // that it read of them; all of those compared without it
  int64_t survivors = 0;    // pairs left by it, or compared without it: not packed, or of the nearest clusters
  int64_t compared = 0;     // pairs whose distance was computed

  Work& operator+=(const Work& other) {
    pairs += other.pairs;
    coordinates += other.coordinates;
    survivors += other.survivors;
    compared += other.compared;
    return *this;
  }
};

}  // namespace pyhue
