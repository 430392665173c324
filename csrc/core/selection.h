// Which vectors a search may find: a parameter of pass.h, asked for those only that no filter dropped.
#pragma once

#include <cstdint>

namespace pyhue {

struct All {
  // `query` as the caller counts queries, `index` as results name vectors.
  constexpr bool operator()(int64_t query, int64_t index) const {
    (void)query, (void)index;
    return true;
  }
};

}  // namespace pyhue
