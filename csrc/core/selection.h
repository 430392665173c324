// Which vectors a search may find: a parameter of pass.h, asked for those only that no filter dropped.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace pyhue {

struct All {
  static constexpr bool kEvery = true;
  // `query` as the caller counts queries, `index` as results name vectors.
  constexpr bool operator()(int64_t query, int64_t index) const {
    (void)query, (void)index;
    return true;
  }
};

// All but some rows, and of each query but those of one group.
struct Chosen {
  static constexpr bool kEvery = false;
  const uint8_t* left_out;  // bit row % 8 of byte row / 8: not to be found; null: no row is left out
  int64_t left_out_rows;    // that have a bit; rows behind them may be found
  const int64_t* groups;    // (rows,) the group of each row; null: no group is excluded
  const int64_t* excluded;  // (queries,) the group that each query leaves out

  PYHUE_HOST_DEVICE bool has(int64_t index) const {
    return !left_out || index >= left_out_rows || !(left_out[index >> 3] >> (index & 7) & 1);
  }
  PYHUE_HOST_DEVICE bool operator()(int64_t query, int64_t index) const {
    return has(index) && (!groups || groups[index] != excluded[query]);
  }
};

}  // namespace pyhue
