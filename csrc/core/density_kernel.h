// Sums over the channels of stored vectors: see density_kernel_types.h.
#pragma once

#include "core/elements.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// As many stored channels as a register has doubles.
template <class Element>
inline Doubles load_channels(const Element* from) {
  constexpr int kLanes = Lanes<double>::count;
  typedef float Narrow __attribute__((vector_size(4 * kLanes)));
  typedef uint32_t NarrowWords __attribute__((vector_size(4 * kLanes)));
  typedef uint16_t NarrowHalves __attribute__((vector_size(2 * kLanes)));
  if constexpr (sizeof(Element) == 4) {
    return __builtin_convertvector(load<Narrow>(from), Doubles);
  } else {
    const NarrowWords words = __builtin_convertvector(load<NarrowHalves>(from), NarrowWords) << 16;
    return __builtin_convertvector((Narrow)words, Doubles);
  }
}
template <class Element>
inline Doubles load_channels(const Element* from, Part part) {
  Element padded[Lanes<double>::count] = {};
  __builtin_memcpy(padded, from, sizeof(Element) * static_cast<unsigned>(part.lanes));
  return load_channels(padded);
}
template <class Element>
inline Doubles load_channels(const Element* from, Full) {
  return load_channels(from);
}

// kRegisters registers of channels from t on; the sums stay in registers over all rows.
template <class Element, int kRegisters, class Extent>
inline void pull_channels(const double* query, int t, const void* const* rows, const double* pulls, int64_t count,
                          double* to, Extent extent) {
  constexpr int kLanes = Lanes<double>::count;
  Doubles from[kRegisters], sums[kRegisters] = {};
  for (int r = 0; r < kRegisters; ++r) from[r] = load_elements(query + t + r * kLanes, extent);
  for (int64_t j = 0; j < count; ++j) {
    const Element* row = static_cast<const Element*>(rows[j]) + t;
    const Doubles pull = splat(pulls[j]);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      sums[r] = multiply_add(pull, from[r] - load_channels(row + r * kLanes, extent), sums[r]);
    }
  }
  for (int r = 0; r < kRegisters; ++r) store_elements(to + t + r * kLanes, sums[r], extent);
}

template <class Element>
void density_pull(const double* query, int dim, const void* const* rows, const double* pulls, int64_t count,
                  double* to) {
  constexpr int kLanes = Lanes<double>::count, kRegisters = 4;
  int t = 0;
  for (; t + kRegisters * kLanes <= dim; t += kRegisters * kLanes) {
    pull_channels<Element, kRegisters>(query, t, rows, pulls, count, to, Full{});
  }
  for (; t + kLanes <= dim; t += kLanes) pull_channels<Element, 1>(query, t, rows, pulls, count, to, Full{});
  if (t < dim) pull_channels<Element, 1>(query, t, rows, pulls, count, to, Part{dim - t});
}

template <class Element>
double density_distance(const double* query, int dim, const void* row) {
  const Element* channels = static_cast<const Element*>(row);
  Doubles sums = {};
  for_registers<double>(0, dim, [&](int64_t t, auto extent) {
    const Doubles difference = load_elements(query + t, extent) - load_channels(channels + t, extent);
    sums = multiply_add(difference, difference, sums);
  });
  return sum_lanes(sums);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
