// What the filters of the NEON levels multiply with; included by screen_kernel.h. The queries' values are read a
// register at a time and multiplied by lane, so that broadcasts cost nothing.
#pragma once

#include "core/screen_kernel_types.h"
#include "core/simd.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// Register tile: the accumulators, a row of vectors and one of queries fill the 32 registers.
constexpr int kTileQueries = 6;
constexpr int kTileRegisters = 4;
constexpr int kTileLanes = kTileRegisters * kWidth;

// The values of Q queries, 32 bits each, in one register or two that overlap: nothing past them is read.
template <int Q>
struct PanelRow {
  static constexpr int kSecond = Q - 4;  // first query of the second register

  explicit PanelRow(const void* from) : first{}, second{} {
    if constexpr (Q < 4) {
      __builtin_memcpy(&first, from, 4 * Q);
    } else {
      first = load<Ints>(from);
      second = load<Ints>(static_cast<const int32_t*>(from) + kSecond);
    }
  }
  Ints of(int q) const { return q < 4 ? first : second; }
  static constexpr int lane(int q) { return q < 4 ? q : q - kSecond; }

  Ints first, second;
};

// body(constant lane), so that instructions can hold the lane.
#define PYHUE_WITH_LANE(lane, call) \
  switch (lane) {                   \
    case 0: return call(0);         \
    case 1: return call(1);         \
    case 2: return call(2);         \
    default: return call(3);        \
  }

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
// bfdot adds the two products of a pair of dimensions.
constexpr int kPanelElementSize = 2;

inline Floats add_pairs(Floats sum, uint16x8_t x, Ints y, int lane) {
#define PYHUE_CALL(constant) vbfdotq_laneq_f32(sum, vreinterpretq_bf16_u16(x), vreinterpretq_bf16_s32(y), constant)
  PYHUE_WITH_LANE(lane, PYHUE_CALL)
#undef PYHUE_CALL
}

template <int Q>
inline void dot_products(const uint16_t* block, const int32_t* dims, int count, const void* panel,
                         Floats (&dot)[Q][kTileRegisters]) {
  const uint16_t* pairs = static_cast<const uint16_t*>(panel);
  for (int k = 0; k < count; k += 2, pairs += 2 * Q) {
    const uint16_t* even = block + int64_t{dims[k]} * kBlock;
    const uint16_t* odd = block + int64_t{dims[k + 1]} * kBlock;
    uint16x8_t x[kTileRegisters];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const uint16x8_t a = vld1q_u16(even + half * 8), b = vld1q_u16(odd + half * 8);
      x[2 * half] = vzip1q_u16(a, b);
      x[2 * half + 1] = vzip2q_u16(a, b);
    }
    const PanelRow<Q> row(pairs);
#pragma GCC unroll 6
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = add_pairs(dot[q][r], x[r], row.of(q), row.lane(q));
    }
  }
}

// sum a_i b_i over bfloat16 values, in float32; count a multiple of 32.
inline float row_dot(const uint16_t* a, const uint16_t* b, int count) {
  Floats sums[4] = {};
  for (int i = 0; i < count; i += 32) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const uint16x8_t x = vld1q_u16(a + i + 8 * r), y = vld1q_u16(b + i + 8 * r);
      sums[r] = vbfdotq_f32(sums[r], vreinterpretq_bf16_u16(x), vreinterpretq_bf16_u16(y));
    }
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}
#else
constexpr int kPanelElementSize = 4;

inline Floats low(uint16x8_t x) { return vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)); }
inline Floats high(uint16x8_t x) { return vreinterpretq_f32_u32(vshll_high_n_u16(x, 16)); }

template <int Q>
inline void dot_products(const uint16_t* block, const int32_t* dims, int count, const void* panel,
                         Floats (&dot)[Q][kTileRegisters]) {
  const float* values = static_cast<const float*>(panel);
  for (int k = 0; k < count; ++k, values += Q) {
    Floats x[kTileRegisters];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const uint16x8_t both = vld1q_u16(block + int64_t{dims[k]} * kBlock + half * 8);
      x[2 * half] = low(both);
      x[2 * half + 1] = high(both);
    }
#pragma GCC unroll 6
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) dot[q][r] = vfmaq_n_f32(dot[q][r], x[r], values[q]);
    }
  }
}

// sum a_i b_i over bfloat16 values, in float32; count a multiple of 32.
inline float row_dot(const uint16_t* a, const uint16_t* b, int count) {
  Floats sums[4] = {};
  for (int i = 0; i < count; i += 32) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const uint16x8_t x = vld1q_u16(a + i + 8 * r), y = vld1q_u16(b + i + 8 * r);
      sums[r] = multiply_add(low(x), low(y), sums[r]);
      sums[r] = multiply_add(high(x), high(y), sums[r]);
    }
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}
#endif

constexpr int kInt8Limit = 127;

// Lanes of 4 bytes of x times the 4 signed bytes in a lane of y, added to sums.
#if defined(__ARM_FEATURE_MATMUL_INT8)
inline Ints add_products(Ints sums, Ints x, Ints y, int lane) {
#define PYHUE_CALL(constant) vusdotq_laneq_s32(sums, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(y), constant)
  PYHUE_WITH_LANE(lane, PYHUE_CALL)
#undef PYHUE_CALL
}
inline Ints load_quads(const uint8_t* from) { return load<Ints>(from); }
inline Ints first_sums(const ByteQuery& query) { return Ints{} - query.offset; }
#else
// Without products of mixed signs the stored bytes become the values that they stand for, and the sums need no offset.
inline Ints load_quads(const uint8_t* from) { return load<Ints>(from) ^ static_cast<int32_t>(0x80808080); }
inline Ints first_sums(const ByteQuery&) { return Ints{}; }
#if defined(__ARM_FEATURE_DOTPROD)
inline Ints add_products(Ints sums, Ints x, Ints y, int lane) {
#define PYHUE_CALL(constant) vdotq_laneq_s32(sums, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(y), constant)
  PYHUE_WITH_LANE(lane, PYHUE_CALL)
#undef PYHUE_CALL
}
#else
inline Ints add_products(Ints sums, Ints x, Ints y, int lane) {
  const int8x16_t a = vreinterpretq_s8_s32(x), b = vreinterpretq_s8_s32(Ints{} + y[lane]);
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
  return vpadalq_s16(sums, vpaddq_s16(low, high));  // pairs fit 16 bits: 2 x 127 x 127
}
#endif
#endif

// sums[q][r] = what the bytes of a tile's vectors times those of the queries give.
template <int Q>
inline void byte_products(const uint8_t* from, int quads, const int8_t* panel, const ByteQuery* queries,
                          Ints (&sums)[Q][kTileRegisters]) {
  for (int q = 0; q < Q; ++q) {
    for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = first_sums(queries[q]);
  }
  for (int quad = 0; quad < quads; ++quad, from += 4 * kBlock, panel += 4 * Q) {
    Ints x[kTileRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kTileRegisters; ++r) x[r] = load_quads(from + 4 * r * kWidth);
    const PanelRow<Q> row(panel);
#pragma GCC unroll 6
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
      for (int r = 0; r < kTileRegisters; ++r) sums[q][r] = add_products(sums[q][r], x[r], row.of(q), row.lane(q));
    }
  }
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
