// The first filter at one level, with sums in vector registers.
#pragma once

#include "core/screen_bounds.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Adds the products of N quads of coordinates, `from` on and `values` on, to the sums of a group.
template <int N, int Q>
inline void add_quads(const uint8_t* from, const int8_t* values, int64_t stride, Ints (&sums)[Q][kTileRegisters]) {
  Ints x[kTileRegisters][N];
#pragma GCC unroll 4
  for (int r = 0; r < kTileRegisters; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) x[r][n] = load<Ints>(from + 4 * n * kBlock + 4 * r * kWidth);
  }
#pragma GCC unroll 7
  for (int q = 0; q < Q; ++q) {
    Ints y[N];
    broadcast_quads(values + q * stride, y);
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = add_products(sums[q][r], x[r], y);
  }
}

// Adds the products of coordinates begin .. end - 1 to the sums of a group, which are in registers only here: the tests
// between stages need the registers too. kFirst: there are no sums yet.
template <bool kFirst, int Q>
__attribute__((noinline)) void add_stage(const BlockScreen& s, int lane, int begin, int end,
                                         Ints (&sums)[Q][kTileRegisters]) {
  Ints added[Q][kTileRegisters];
#pragma GCC unroll 7
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) added[q][r] = kFirst ? Ints{} : sums[q][r];
  }
  const uint8_t* from = s.block + 4 * lane + int64_t{begin} * kBlock;
  const int8_t* values = s.queries;
  int k = begin;
  for (; k + 4 * (kQuads - 1) < end; k += 4 * kQuads, from += 4 * kQuads * kBlock)
    add_quads<kQuads>(from, values + k, s.stride, added);
  for (; kQuads > 1 && k < end; k += 4, from += 4 * kBlock) add_quads<1>(from, values + k, s.stride, added);
#pragma GCC unroll 7
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = added[q][r];
  }
}

// One group: kTileLanes lanes from `lane` on.
template <int Q>
int screen_lanes(const BlockScreen& s, int lane, Survivor* survivors, ScreenEnd* end) {
  Ints sums[Q][kTileRegisters];
  add_stage<true>(s, lane, 0, s.ends[s.first], sums);
  for (int stage = s.first;; ++stage) {
    if (stage > s.first) add_stage<false>(s, lane, s.ends[stage - 1], s.ends[stage], sums);
    uint32_t masks[kTileRegisters][Q];
    int found = 0;
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) {
      const LaneTerms x = lane_terms(s, stage, lane + r * kWidth);
#pragma GCC unroll 7
      for (int q = 0; q < Q; ++q) {
        const QueryBound& query = s.query_bounds[q];
        const Floats bounds = bound_of(sums[q][r], x, s.factors[stage * s.factor_stride + q], query.scale);
        masks[r][q] = not_less(bounds, broadcast(query.threshold));
        found += __builtin_popcount(masks[r][q]);
      }
    }
    if (!ends(s, stage, found, kFew)) continue;
    end->stage = stage;
    end->coordinates += s.ends[stage] * kTileLanes;
    int count = 0;
    if (found == 0) return 0;
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) {
#pragma GCC unroll 7
      for (int q = 0; q < Q; ++q) {
        if (!masks[r][q]) continue;
        const LaneTerms x = lane_terms(s, stage, lane + r * kWidth);
        const Floats bounds = bound_of(sums[q][r], x, s.factors[stage * s.factor_stride + q], s.query_bounds[q].scale);
        count = write_survivors(masks[r][q], q, lane + r * kWidth, s.ends[stage], sums[q][r], bounds, survivors, count);
      }
    }
    return count;
  }
}

template <int Q>
int screen_groups(const BlockScreen& s, Survivor* survivors, ScreenEnd* end) {
  int count = 0;
  for (int lane = 0; lane < kBlock; lane += kTileLanes) count += screen_lanes<Q>(s, lane, survivors + count, end);
  return count;
}

template <int Q>
void bound_groups(const BlockScreen& s, float* bounds, int64_t stride, float* least) {
  const int stage = s.stages - 1;
  for (int first = 0; first < kBlock; first += kTileLanes) {
    Ints sums[Q][kTileRegisters];
    add_stage<true>(s, first, 0, s.ends[stage], sums);
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) {
      const int lane = first + r * kWidth;
      const LaneTerms x = lane_terms(s, stage, lane);
#pragma GCC unroll 7
      for (int q = 0; q < Q; ++q) {
        const Sides sides = sides_of(sums[q][r], x, s.factors[stage * s.factor_stride + q], s.query_bounds[q].scale);
        store(bounds + q * stride + lane, sides.most);
        float* raised = least + q * kBlock + lane;
        const Floats before = load<Floats>(raised);
        store(raised, sides.least > before ? sides.least : before);
      }
    }
  }
}

void bound_block(const BlockScreen& screen, int queries, float* bounds, int64_t stride, float* least) {
  switch (queries) {
    case 1: return bound_groups<1>(screen, bounds, stride, least);
    case 2: return bound_groups<2>(screen, bounds, stride, least);
    case 3: return bound_groups<3>(screen, bounds, stride, least);
    case 4: return bound_groups<4>(screen, bounds, stride, least);
    case 5: return bound_groups<5>(screen, bounds, stride, least);
    case 6: return bound_groups<6>(screen, bounds, stride, least);
    default: return bound_groups<kTileQueries>(screen, bounds, stride, least);
  }
}

int screen_block(const BlockScreen& screen, int queries, Survivor* survivors, ScreenEnd* end) {
  switch (queries) {
    case 1: return screen_groups<1>(screen, survivors, end);
    case 2: return screen_groups<2>(screen, survivors, end);
    case 3: return screen_groups<3>(screen, survivors, end);
    case 4: return screen_groups<4>(screen, survivors, end);
    case 5: return screen_groups<5>(screen, survivors, end);
    case 6: return screen_groups<6>(screen, survivors, end);
    default: return screen_groups<kTileQueries>(screen, survivors, end);
  }
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
