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
  even += odd;
  int32_t total = 0;
  for (int lane = 0; lane < kWidth; ++lane) total += even[lane];
  return total;
}

int screen_rows(const RowScreen& s, Survivor* survivors, int count) {
  constexpr int kAhead = 4;  // survivors whose rows are fetched before their turn
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const Survivor& next = survivors[i + kAhead < count ? i + kAhead : i];
    const uint8_t* fetched = s.rows + next.lane * s.stride - s.begin;
    const int until = s.ends[s.stages > 1 && s.ends[0] <= next.end];
    for (int k = next.end; k < until; k += 64) __builtin_prefetch(fetched + k);
    Survivor survivor = survivors[i];
    const uint8_t* row = s.rows + survivor.lane * s.stride - s.begin;
    const int8_t* values = s.queries + survivor.query * s.query_stride;
    const QueryBound& query = s.query_bounds[survivor.query];
    bool survives = true;
    for (int stage = 0; survives && stage < s.stages; ++stage) {
      if (s.ends[stage] <= survivor.end) continue;
      survivor.sum += row_sum(row + survivor.end, values + survivor.end, s.ends[stage] - survivor.end);
      survivor.end = s.ends[stage];
      const float* x = s.bounds + survivor.lane * s.bound_stride + stage * kStageTerms;
      const StageFactors& factors = s.factors[stage * s.factor_stride + survivor.query];
      const float dot = static_cast<float>(survivor.sum - factors.offset) * query.scale;
      survivor.bound = dot + x[kNorm] * factors.norm + x[kError] * factors.error + x[kTail] * factors.tail -
                       s.half_norms[survivor.lane];
      survives = !(survivor.bound < query.threshold);
    }
    survivors[kept] = survivor;
    kept += survives;
  }
  return kept;
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
