// The rounding kernel of one level; contract in pack_kernel_types.h.
#pragma once

#include "core/pack_kernel_types.h"
#include "core/simd_math.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

typedef int32_t HalfInts __attribute__((vector_size(2 * kWidth)));
typedef uint8_t HalfBytes __attribute__((vector_size(kWidth / 2)));

void round_coordinates(const double* values, const Steps& s, int begin, int end, uint8_t* bytes, Squares* squares) {
  constexpr double kMagic = 0x1.8p52;  // added and taken away: the nearest integer, ties to even
  constexpr int kLanes = Lanes<double>::count, kRegisters = kSquares / kLanes;
  Doubles exact[kRegisters] = {}, weighted[kRegisters] = {}, error[kRegisters] = {};
  const auto round = [&](const double* value_at, const double* step_at, const double* inverse_at,
                         const double* weight_at, uint8_t* to) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const int at = r * kLanes;
      const Doubles value = load<Doubles>(value_at + at), least = Doubles{} - 127, most = Doubles{} + 127;
      Doubles count = value * load<Doubles>(inverse_at + at);
      count = count < least ? least : count;
      count = count > most ? most : count;
      count = count + kMagic - kMagic;
      const Doubles change = value - count * load<Doubles>(step_at + at);
      exact[r] += value * value;
      weighted[r] += value * value * load<Doubles>(weight_at + at);
      error[r] += change * change;
      const HalfBytes rounded = __builtin_convertvector(__builtin_convertvector(count, HalfInts) + 128, HalfBytes);
      __builtin_memcpy(to + at, &rounded, sizeof rounded);
    }
  };
  int k = begin;
  for (; k + kSquares <= end; k += kSquares) {
    round(values + k, s.steps + k, s.inverses + k, s.squared_weights + k, bytes + k);
  }
  if (k < end) {  // the rest, with zeros behind
    double last[4][kSquares] = {};
    uint8_t rounded[kSquares];
    const double* from[] = {values, s.steps, s.inverses, s.squared_weights};
    for (int a = 0; a < 4; ++a) {
      for (int i = k; i < end; ++i) last[a][i - k] = from[a][i];
    }
    round(last[0], last[1], last[2], last[3], rounded);
    for (int i = k; i < end; ++i) bytes[i] = rounded[i - k];
  }
  const auto add = [](double* sums, const Doubles* more) {
    double each[kSquares];
    __builtin_memcpy(each, more, sizeof each);
    for (int i = 0; i < kSquares; ++i) sums[i] += each[i];
  };
  add(squares->exact, exact);
  add(squares->weighted, weighted);
  add(squares->error, error);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
