// The hue cross-entropy kernels of one level; contracts in hue_cross_entropy_kernel_types.h.
#pragma once

#include "core/elements.h"
#include "core/hue_cross_entropy_kernel_types.h"
#include "core/hue_softmax.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// One row's arrays and target distribution q.
template <class Element>
struct HueCrossEntropyRow {
  using Real = RealOf<Element>;

  HueCrossEntropyRow(const HueCrossEntropyRows& rows, int64_t row)
      : input(static_cast<const Element*>(rows.input) + row * rows.classes),
        label_x(static_cast<const Real*>(rows.label_x)),
        label_y(static_cast<const Real*>(rows.label_y)),
        hue(static_cast<const Real*>(rows.hue) + 2 * row, rows.hue_scale),
        weight(static_cast<const Real*>(rows.weight)),
        given(static_cast<Real>(1 - rows.label_smoothing)),
        smooth(static_cast<Real>(rows.label_smoothing / static_cast<double>(rows.classes))),
        scale(static_cast<Real>(rows.row_scale)) {
    if (rows.row_weight) scale *= static_cast<const Real*>(rows.row_weight)[row];
    if (rows.probabilities) {
      probabilities = static_cast<const Real*>(rows.probabilities) + row * rows.classes;
    } else {
      target = rows.target[row];
      hard = given * (weight ? weight[target] : Real(1));
    }
  }

  // q without its one-hot part, for a register of classes.
  template <class Extent>
  Vector<Real> soft(int64_t i, Extent part) const {
    Vector<Real> q = splat(smooth);
    if (probabilities) q = multiply_add(load_elements(probabilities + i, part), splat(given), q);
    if (weight) q *= load_elements(weight + i, part);
    return keep(q, part, Vector<Real>{});
  }

  HueRegister<Real> hue_of(int64_t i) const { return hue(load_elements(label_x + i), load_elements(label_y + i)); }
  HueRegister<Real> hue_of_target() const { return hue(splat(label_x[target]), splat(label_y[target])); }

  const Element* input;
  const Real* label_x;
  const Real* label_y;
  HuePoint<Real> hue;
  const Real* weight;
  const Real* probabilities = nullptr;
  Real given, smooth;
  Real scale;  // of the row's gradients
  int64_t target = 0;
  Real hard = 0;  // the one-hot part of q, at `target`
};

// What one pass over a row's classes finds.
template <class Real>
struct RowSums {
  Real maximum = -static_cast<Real>(kInfinity);
  Vector<Real> exponentials{};  // sum of e^(x - maximum)
  Vector<Real> soft{};          // sum of the soft part of q
  HueSums<Real> hue;
};

// Scratch memory of a worker: e^(x_c - shift of its block) for each class, then the shift of each block.
template <class Real>
struct Scratch {
  Scratch(void* memory, int64_t classes)
      : exponentials(static_cast<Real*>(memory)), shifts(exponentials + classes + 2 * Lanes<Real>::count) {}
  Real* exponentials;
  Real* shifts;
};

template <bool kSoft, bool kTiny, class Element, class Real>
inline RowSums<Real> sum_row(const HueCrossEntropyRow<Element>& row, int64_t classes, Scratch<Real> scratch) {
  const Vector<Real> lowest = splat(-static_cast<Real>(kInfinity));
  RowSums<Real> sums;
  for (int64_t begin = 0; begin < classes; begin += kSoftmaxBlock) {
    const int64_t end = begin + kSoftmaxBlock < classes ? begin + kSoftmaxBlock : classes;
    Vector<Real> largest = lowest;
    for_registers<Real>(begin, end, [&](int64_t i, auto part) {
      largest = max(keep(load_elements(row.input + i, part), part, lowest), largest);
    });
    const Real maximum = max_lanes(largest);
    if (maximum > sums.maximum) {
      sums.exponentials *= exp(splat(sums.maximum - maximum));
      sums.maximum = maximum;
    }
    // Minus infinity only, so far: their exponentials are 0, not the NaN of -inf - -inf.
    const Real shift = sums.maximum == lowest[0] ? Real(0) : sums.maximum;
    scratch.shifts[begin / kSoftmaxBlock] = shift;
    for_registers<Real>(begin, end, [&](int64_t i, auto part) {
      const Vector<Real> e = exp(keep(load_elements(row.input + i, part), part, lowest) - splat(shift));
      store(scratch.exponentials + i, e);
      sums.exponentials += e;
      const HueRegister<Real> hue = row.hue_of(i);
      sums.hue.template add<kTiny>(hue, part);
      if constexpr (kSoft) {
        const Vector<Real> q = row.soft(i, part);
        sums.soft += q;
        sums.hue.add_soft(hue, q);
      }
    });
  }
  return sums;
}

// sum_c q_c (maximum - x_c) over the soft part of q.
template <class Element, class Real>
inline Real soft_margin(const HueCrossEntropyRow<Element>& row, int64_t classes, Real maximum) {
  Vector<Real> sum{};
  for_registers<Real>(0, classes, [&](int64_t i, auto part) {
    const Vector<Real> margin = splat(maximum) - load_elements(row.input + i, part);
    sum += keep(row.soft(i, part) * margin, part, Vector<Real>{});
  });
  return sum_lanes(sum);
}

// gradient_c = factor e^(x_c - maximum) - row_scale q_c, each written once.
template <bool kSoft, class Element, class Real>
inline void write_gradient(const HueCrossEntropyRow<Element>& row, const HueCrossEntropyRows& rows,
                           Scratch<Real> scratch, Real maximum, Real factor, Element* gradient) {
  const Vector<Real> row_scale = splat(row.scale);
  const auto value = [&](int64_t i, auto part, Vector<Real> block_factor) {
    Vector<Real> g = load<Vector<Real>>(scratch.exponentials + i) * block_factor;
    if constexpr (kSoft) g -= row.soft(i, part) * row_scale;
    return g;
  };
  Vector<Real> at_target{};
  for (int64_t begin = 0; begin < rows.classes; begin += kSoftmaxBlock) {
    const int64_t end = begin + kSoftmaxBlock < rows.classes ? begin + kSoftmaxBlock : rows.classes;
    const Real shift = scratch.shifts[begin / kSoftmaxBlock];
    const Vector<Real> block_factor = shift == maximum ? splat(factor) : splat(factor) * exp(splat(shift - maximum));
    if (row.target >= begin && row.target < end) at_target = value(row.target, Part{1}, block_factor);
    int64_t i = begin;
    if (rows.stream) {
      constexpr uintptr_t kBytes = sizeof(Element) * Lanes<Real>::count;
      const uintptr_t past = reinterpret_cast<uintptr_t>(gradient + i) % kBytes;
      const int64_t head = past ? static_cast<int64_t>((kBytes - past) / sizeof(Element)) : 0;
      if (head && head <= end - i) {
        const Part part{static_cast<int>(head)};
        store_elements(gradient + i, value(i, part, block_factor), part);
        i += head;
      }
      for (; i + Lanes<Real>::count <= end; i += Lanes<Real>::count) {
        stream_elements(gradient + i, value(i, Full{}, block_factor));
      }
    }
    for_registers<Real>(
        i, end, [&](int64_t j, auto part) { store_elements(gradient + j, value(j, part, block_factor), part); });
  }
  if (row.hard != 0) {
    at_target -= splat(static_cast<Real>(row.hard * row_scale[0]));
    store_elements(gradient + row.target, at_target, Part{1});
  }
}

template <bool kSoft, bool kTiny, class Element>
inline void hue_cross_entropy_row(const HueCrossEntropyRows& rows, int64_t index, void* memory) {
  using Real = RealOf<Element>;
  HueCrossEntropyRow<Element> row(rows, index);
  row.hue.shift = hue_shift(row.hue, row.label_x, row.label_y, rows.classes, rows.hue_scale * rows.label_radius);
  const Scratch<Real> scratch(memory, rows.classes);
  const RowSums<Real> sums = sum_row<kSoft, kTiny>(row, rows.classes, scratch);

  const Real exponentials = sum_lanes(sums.exponentials), partition = sum_lanes(sums.hue.partition);
  const Real total = row.hard + (kSoft ? sum_lanes(sums.soft) : Real(0));  // of q
  const HueRegister<Real> target = row.hue_of_target();
  const double log_sum = __builtin_log(static_cast<double>(exponentials));
  double margin = 0, hue_margin = 0;  // sum_c q_c (maximum - x_c), and -sum_c q_c t_c
  if (!rows.probabilities) {
    margin = row.hard * static_cast<double>(sums.maximum - load_elements(row.input + row.target, Part{1})[0]);
    hue_margin = -row.hard * static_cast<double>(target.t[0]);
  }
  if constexpr (kSoft) {
    margin += soft_margin(row, rows.classes, sums.maximum);
    hue_margin -= sum_lanes(sums.hue.soft_t);
  }
  const double log_partition = __builtin_log(static_cast<double>(partition));
  rows.loss[index] = total * log_sum + margin + rows.hue_weight * (total * log_partition + hue_margin);

  if (!rows.grad_input) return;
  write_gradient<kSoft>(row, rows, scratch, sums.maximum, row.scale * total / exponentials,
                        static_cast<Element*>(rows.grad_input) + index * rows.classes);
  const Real scale = row.scale * static_cast<Real>(rows.hue_weight * rows.hue_scale);
  const Real share = total / partition;
  Real x = row.hard * target.unit_x[0] - share * sum_lanes(sums.hue.x);
  Real y = row.hard * target.unit_y[0] - share * sum_lanes(sums.hue.y);
  if constexpr (kSoft) {
    x += sum_lanes(sums.hue.soft_x);
    y += sum_lanes(sums.hue.soft_y);
  }
  Real* grad_hue = static_cast<Real*>(rows.grad_hue) + 2 * index;
  grad_hue[0] = scale * x;
  grad_hue[1] = scale * y;
  if (rows.row_state) {
    Real* state = static_cast<Real*>(rows.row_state) + kRowState * index;
    state[kShift] = row.hue.shift[0];
    state[kPartition] = scale * share;
    state[kHard] = scale * row.hard;
  }
}

inline bool ignored(const HueCrossEntropyRows& rows, int64_t row) {
  return rows.target && rows.target[row] == rows.ignore_index;
}

template <bool kSoft, bool kTiny, class Element>
void hue_cross_entropy_rows(const HueCrossEntropyRows& rows, int64_t begin, int64_t end, void* scratch) {
  for (int64_t row = begin; row < end; ++row) {
    if (!ignored(rows, row)) {
      hue_cross_entropy_row<kSoft, kTiny, Element>(rows, row, scratch);
      continue;
    }
    rows.loss[row] = 0;
    if (!rows.grad_input) continue;
    const unsigned long bytes = sizeof(Element) * static_cast<unsigned long>(rows.classes);
    __builtin_memset(static_cast<Element*>(rows.grad_input) + row * rows.classes, 0, bytes);
    __builtin_memset(static_cast<RealOf<Element>*>(rows.grad_hue) + 2 * row, 0, 2 * sizeof(RealOf<Element>));
  }
  // Streamed stores become visible to other threads only behind a fence.
#if defined(__SSE2__)
  if (rows.stream) _mm_sfence();
#endif
}

template <class Element>
void hue_cross_entropy(const HueCrossEntropyRows& rows, int64_t begin, int64_t end, void* scratch) {
  const bool soft = rows.probabilities || rows.label_smoothing != 0;
  const bool tiny = sizeof(RealOf<Element>) == 4 && rows.hue_scale * rows.label_radius <= 0x1p-8;
  const auto kernel =
      soft ? (tiny ? hue_cross_entropy_rows<true, true, Element> : hue_cross_entropy_rows<true, false, Element>)
           : (tiny ? hue_cross_entropy_rows<false, true, Element> : hue_cross_entropy_rows<false, false, Element>);
  kernel(rows, begin, end, scratch);
}

template <class Element>
void hue_label_gradient(const HueCrossEntropyRows& rows, int64_t count, int64_t begin, int64_t end, void* grad_labels) {
  using Real = RealOf<Element>;
  const bool soft = rows.probabilities || rows.label_smoothing != 0;
  const Real hue_scale = static_cast<Real>(rows.hue_weight * rows.hue_scale);
  for_registers<Real>(begin, end, [&](int64_t i, auto part) {
    Vector<Real> x{}, y{};
    for (int64_t index = 0; index < count; ++index) {
      if (ignored(rows, index)) continue;
      HueCrossEntropyRow<Element> row(rows, index);
      const Real* state = static_cast<const Real*>(rows.row_state) + kRowState * index;
      row.hue.shift = splat(state[kShift]);
      const HueRegister<Real> hue = row.hue_of(i);
      Vector<Real> coefficient = splat(state[kPartition]) * exp(hue.t);
      if (soft) coefficient -= row.soft(i, part) * splat(row.scale * hue_scale);
      const int64_t lane = row.target - i;
      if (lane >= 0 && lane < Lanes<Real>::count) coefficient[lane] -= state[kHard];
      x = multiply_add(coefficient, hue.unit_x, x);
      y = multiply_add(coefficient, hue.unit_y, y);
    }
    for (int64_t c = i; c < end && c < i + Lanes<Real>::count; ++c) {
      static_cast<Real*>(grad_labels)[2 * c] = x[c - i];
      static_cast<Real*>(grad_labels)[2 * c + 1] = y[c - i];
    }
  });
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
