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
  constexpr int kAhead = 4;  // survivors whose rows are fetched before their turn
  for (int stage = 0; stage < s.stages; ++stage) {
    const int end = s.ends[stage];
    for (int i = 0; i < count && i < kAhead; ++i) prefetch_row(s, survivors[i], end);
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      if (i + kAhead < count) prefetch_row(s, survivors[i + kAhead], end);
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

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
