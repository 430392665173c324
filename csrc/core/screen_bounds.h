// The filters' bounds at one level, and what survives them.
#pragma once

#include "core/screen_products.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Half norms and the terms of a stage, of a register of vectors.
struct LaneTerms {
  Floats half_norm, norm, error, tail;
};

inline LaneTerms lane_terms(const BlockScreen& s, int stage, int lane) {
  const float* terms = s.bounds + (1 + kStageTerms * stage) * kBlock + lane;
  return {load<Floats>(s.bounds + lane), load<Floats>(terms + kNorm * kBlock), load<Floats>(terms + kError * kBlock),
          load<Floats>(terms + kTail * kBlock)};
}

inline Floats bound_of(Ints sums, const LaneTerms& x, const StageFactors& query, float scale) {
  Floats bound = multiply_add(x.norm, broadcast(query.norm), -x.half_norm);
  bound = multiply_add(x.error, broadcast(query.error), bound);
  bound = multiply_add(x.tail, broadcast(query.tail), bound);
  return multiply_add(__builtin_convertvector(sums - query.offset, Floats), broadcast(scale), bound);
}

// The same, and what it bounds from below: as far on the other side of the products. Half norms are rounded down; 2^-18
// of them covers that, and the rounding of these operations.
struct Sides {
  Floats most, least;
};

inline Sides sides_of(Ints sums, const LaneTerms& x, const StageFactors& query, float scale) {
  Floats slack = multiply_add(x.norm, broadcast(query.norm), x.half_norm * broadcast(0x1p-18f));
  slack = multiply_add(x.error, broadcast(query.error), slack);
  slack = multiply_add(x.tail, broadcast(query.tail), slack);
  const Floats middle =
      multiply_add(__builtin_convertvector(sums - query.offset, Floats), broadcast(scale), -x.half_norm);
  return {middle + slack, middle - slack};
}

// Writes the survivors that `mask` names, of a register of vectors from `lane` on; returns how many there are then.
inline int write_survivors(uint32_t mask, int query, int lane, int end, Ints sums, Floats bounds, Survivor* survivors,
                           int count) {
  int32_t sum_of[kWidth];
  float bound_of[kWidth];
  __builtin_memcpy(sum_of, &sums, sizeof sums);
  store(bound_of, bounds);
  for (; mask; mask &= mask - 1) {
    const int bit = __builtin_ctz(mask);
    survivors[count++] = {query, lane + bit, sum_of[bit], end, bound_of[bit]};
  }
  return count;
}

// Whether a group of lanes, of whose pairs `found` survive a stage, ends there.
inline bool ends(const BlockScreen& s, int stage, int found, int few) {
  return found == 0 || stage == s.stages - 1 || (found <= few && stage >= s.leave);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
