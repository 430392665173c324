// The filters of one level; contracts in screen_kernel_types.h.
#pragma once

#include "core/screen_registers.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// The sum of products of bytes and int8; count a multiple of 4, `a` and `b` readable up to kStageDims.
inline int32_t row_sum(const uint8_t* a, const int8_t* b, int count) {
  Ints even = {}, odd = {};
  for (int i = 0; i < count; i += 8 * kWidth) {
    even = add_products(even, load<Ints>(a + i), load<Ints>(b + i));
    if (i + 4 * kWidth < count) odd = add_products(odd, load<Ints>(a + i + 4 * kWidth), load<Ints>(b + i + 4 * kWidth));
  }
  return sum(even + odd);
}

// Fetches what a stage that ends at `end` reads of a survivor's row.
inline void prefetch_row(const RowScreen& s, const Survivor& survivor, int end) {
  const uint8_t* row = s.rows + survivor.lane * s.stride - s.begin;
  for (int k = survivor.end; k < end; k += 64) __builtin_prefetch(row + k);
}

// All survivors go through a stage before the next: whether one survives is a coin's toss, and here nothing that the
// processor would have to guess hangs on it.
int screen_rows(const RowScreen& s, Survivor* survivors, int count) {
  constexpr int kFetched = 4;  // survivors whose rows are fetched before their turn
  for (int stage = 0; stage < s.stages; ++stage) {
    const int end = s.ends[stage];
    for (int i = 0; i < count && i < kFetched; ++i) prefetch_row(s, survivors[i], end);
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      if (i + kFetched < count) prefetch_row(s, survivors[i + kFetched], end);
      Survivor survivor = survivors[i];
      bool survives = true;
      if (survivor.end < end) {
        const uint8_t* row = s.rows + survivor.lane * s.stride - s.begin;
        const int8_t* values = s.queries + survivor.query * s.query_stride;
        const float* x = s.bounds + survivor.lane * s.bound_stride + stage * kStageTerms;
        const StageFactors& factors = s.factors[stage * s.factor_stride + survivor.query];
        const QueryBound& query = s.query_bounds[survivor.query];
        survivor.sum += row_sum(row + survivor.end, values + survivor.end, end - survivor.end);
        survivor.end = end;
        const float dot = static_cast<float>(survivor.sum - factors.offset) * query.scale;
        survivor.bound = dot + x[kNorm] * factors.norm + x[kError] * factors.error + x[kTail] * factors.tail -
                         s.half_norms[survivor.lane];
        survives = !(survivor.bound < query.threshold);
      }
      survivors[kept] = survivor;
      kept += survives;
    }
    count = kept;
  }
  return count;
}

// Bisects the upper bits of what orders floats like integers: no branch hangs on a value.
float kth_largest(const float* values, int64_t count, int64_t k) {
  constexpr int kBits = 22;                    // of sign, exponent and mantissa
  constexpr uint32_t kInfinite = 0xff800000u;  // what is above is no number
  const auto number = [](uint32_t order) {
    const uint32_t bits = order & 0x80000000u ? order & 0x7fffffffu : ~order;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  };
  uint32_t order = 0x007fffffu;  // of -inf
  for (uint32_t bit = 0x80000000u; bit >> (31 - kBits); bit >>= 1) {
    const uint32_t higher = (order | bit) & ~(bit - 1);
    const float least = number(higher);
    int64_t found = 0;
    for (int64_t i = 0; i < count; i += kBlock) {
#pragma GCC unroll 16
      for (int lane = 0; lane < kBlock; lane += kWidth) {
        found += __builtin_popcount(not_less(load<Floats>(values + i + lane), broadcast(least)));
      }
    }
    order = found >= k && higher > order && higher <= kInfinite ? higher : order;
  }
  return number(order);
}

// The first kAhead of a block are written whether they are there or not: how many there are, nobody can guess.
int not_below(const float* bounds, int64_t count, float threshold, int32_t* positions) {
  int found = 0;
  for (int64_t first = 0; first < count; first += kBlock) {
    uint64_t mask = 0;
#pragma GCC unroll 16
    for (int lane = 0; lane < kBlock; lane += kWidth) {
      mask |= uint64_t{not_less(load<Floats>(bounds + first + lane), broadcast(threshold))} << lane;
    }
    const auto position = [&] { return static_cast<int32_t>(first) + __builtin_ctzll(mask | uint64_t{1} << 63); };
    const int more = __builtin_popcountll(mask);
    int32_t* to = positions + found;
    found += more;
#pragma GCC unroll 2
    for (int i = 0; i < kAhead; ++i, mask &= mask - 1) *to++ = position();
    for (; mask; mask &= mask - 1) *to++ = position();
  }
  return found;
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
