// The filters of one level; contracts in screen_kernel_types.h.
#pragma once

#if defined(PYHUE_NEON)
#include "core/screen_neon.h"
#else
#include "core/screen_products.h"
#endif

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Tests the bound of one query and a register of vectors from `lane` on; returns how many survivors there are then.
inline int test(int q, int lane, Floats dot, const float* bounds, const QueryBound& query, Survivor* survivors,
                int count) {
  const float* terms = bounds + lane;
  Floats bound = multiply_add(load<Floats>(terms + kNorm * kBlock), broadcast(query.norm_factor), dot);
  bound = multiply_add(load<Floats>(terms + kError * kBlock), broadcast(query.error_factor), bound);
  bound = multiply_add(load<Floats>(terms + kTail * kBlock), broadcast(query.tail_factor), bound);
  bound -= load<Floats>(terms + kHalfNorm * kBlock);
  uint32_t mask = not_less(bound, broadcast(query.threshold));
  if (__builtin_expect(mask != 0, 0)) {
    float dots[kWidth], bound_of[kWidth];
    store(dots, dot);
    store(bound_of, bound);
    for (; mask; mask &= mask - 1) {
      const int bit = __builtin_ctz(mask);
      survivors[count++] = {q, lane + bit, dots[bit], bound_of[bit]};
    }
  }
  return count;
}

template <int Q>
int screen(const uint16_t* block, const float* bounds, const int32_t* dims, int dim_count, const void* panel,
           const QueryBound* query_bounds, Survivor* survivors) {
  int count = 0;
  for (int lane = 0; lane < kBlock; lane += kTileLanes) {
    Floats dot[Q][kTileRegisters] = {};
    dot_products<Q>(block + lane, dims, dim_count, panel, dot);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) {
        count = test(q, lane + r * kWidth, dot[q][r], bounds, query_bounds[q], survivors, count);
      }
    }
  }
  return count;
}

int screen_tile(const uint16_t* block, const float* bounds, const int32_t* dims, int count, const void* panel,
                const QueryBound* query_bounds, int queries, Survivor* survivors) {
  switch (queries) {
    case 1: return screen<1>(block, bounds, dims, count, panel, query_bounds, survivors);
    case 2: return screen<2>(block, bounds, dims, count, panel, query_bounds, survivors);
    case 3: return screen<3>(block, bounds, dims, count, panel, query_bounds, survivors);
    case 4: return screen<4>(block, bounds, dims, count, panel, query_bounds, survivors);
    case 5: return screen<5>(block, bounds, dims, count, panel, query_bounds, survivors);
    case 6: return screen<6>(block, bounds, dims, count, panel, query_bounds, survivors);
    default: return screen<kTileQueries>(block, bounds, dims, count, panel, query_bounds, survivors);
  }
}

template <int Q>
int screen_quads(const uint8_t* block, const float* bounds, int quads, const int8_t* panel, const ByteQuery* queries,
                 const QueryBound* query_bounds, Survivor* survivors) {
  int count = 0;
  for (int lane = 0; lane < kBlock; lane += kTileLanes) {
    Ints sums[Q][kTileRegisters];
    byte_products<Q>(block + 4 * lane, quads, panel, queries, sums);
#pragma GCC unroll 7
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) {
        const Floats dot = __builtin_convertvector(sums[q][r], Floats) * broadcast(queries[q].scale);
        count = test(q, lane + r * kWidth, dot, bounds, query_bounds[q], survivors, count);
      }
    }
  }
  return count;
}

int screen_bytes(const uint8_t* block, const float* bounds, int quads, const int8_t* panel, const ByteQuery* sums,
                 const QueryBound* query_bounds, int queries, Survivor* survivors) {
  switch (queries) {
    case 1: return screen_quads<1>(block, bounds, quads, panel, sums, query_bounds, survivors);
    case 2: return screen_quads<2>(block, bounds, quads, panel, sums, query_bounds, survivors);
    case 3: return screen_quads<3>(block, bounds, quads, panel, sums, query_bounds, survivors);
    case 4: return screen_quads<4>(block, bounds, quads, panel, sums, query_bounds, survivors);
    case 5: return screen_quads<5>(block, bounds, quads, panel, sums, query_bounds, survivors);
    case 6: return screen_quads<6>(block, bounds, quads, panel, sums, query_bounds, survivors);
    default: return screen_quads<kTileQueries>(block, bounds, quads, panel, sums, query_bounds, survivors);
  }
}

int screen_rows(const RowPart& part, Survivor* survivors, int count) {
  constexpr int kAhead = 4;  // survivors whose rows are fetched before their turn
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const uint16_t* next = part.rows + survivors[i + kAhead < count ? i + kAhead : i].lane * part.stride;
    for (int k = 0; k < part.count; k += 32) __builtin_prefetch(next + k);
    const Survivor& s = survivors[i];
    const float dot =
        s.dot + row_dot(part.rows + s.lane * part.stride, part.queries + s.query * part.stride, part.count);
    const QueryBound& query = part.row_queries[s.query * part.row_query_stride];
    const float* x = part.row_bounds + s.lane * part.row_bound_stride;
    const float bound = dot + query.norm_factor * part.bounds[kNorm * kBlock + s.lane] + query.error_factor * x[0] +
                        query.tail_factor * x[1] - part.bounds[kHalfNorm * kBlock + s.lane];
    survivors[kept] = {s.query, s.lane, dot, bound};
    kept += !(bound < part.query_bounds[s.query].threshold);
  }
  return kept;
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
