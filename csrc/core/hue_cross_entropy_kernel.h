// The hue cross-entropy kernels of one level; contracts in hue_cross_entropy_kernel_types.h.
#pragma once

#include "core/hue_cross_entropy_row.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// What one pass over a row's classes finds.
template <class Real, bool kTiny>
struct RowSums {
  Real maximum = -static_cast<Real>(kInfinity);
  Vector<Real> exponentials{};  // sum of e^(x - maximum)
  Vector<Real> soft{};          // sum of the soft part of q
  HueSums<Real, kTiny> hue;
};

// Scratch memory of a worker: e^(x_c - shift of its block) for each class, then the shift of each block, then the
// logits where they are capped.
template <class Real>
struct Scratch {
  Scratch(void* memory, int64_t classes)
      : exponentials(static_cast<Real*>(memory)),
        shifts(exponentials + classes + 2 * Lanes<Real>::count),
        capped(shifts + (classes + kSoftmaxBlock - 1) / kSoftmaxBlock) {}
  Real* exponentials;
  Real* shifts;
  Real* capped;
};

// Logits of a row, of which sum_row has left the capped ones in scratch memory.
template <bool kCapped, class Row, class Real, class Extent>
inline Vector<Real> load_logits(const Row& row, Scratch<Real> scratch, int64_t i, Extent part) {
  if constexpr (kCapped) return load<Vector<Real>>(scratch.capped + i);
  return load_elements(row.input + i, part);
}

template <bool kSoft, bool kTiny, bool kCapped, class Row, class Real>
inline RowSums<Real, kTiny> sum_row(const Row& row, int64_t classes, Scratch<Real> scratch) {
  const Vector<Real> lowest = splat(-static_cast<Real>(kInfinity));
  RowSums<Real, kTiny> sums{.hue = HueSums<Real, kTiny>(row.hue)};
  for (int64_t begin = 0; begin < classes; begin += kSoftmaxBlock) {
    const int64_t end = begin + kSoftmaxBlock < classes ? begin + kSoftmaxBlock : classes;
    Vector<Real> largest = lowest;
    for_registers<Real>(begin, end, [&](int64_t i, auto part) {
      Vector<Real> x = load_elements(row.input + i, part);
      if constexpr (kCapped) store(scratch.capped + i, x = row.capped(x));
      largest = max(keep(x, part, lowest), largest);
    });
    const Real maximum = max_lanes(largest);
    if (maximum > sums.maximum) {
      sums.exponentials *= exp(splat(sums.maximum - maximum));
      sums.maximum = maximum;
    }
    // Minus infinity only, so far: their exponentials are 0, not the NaN of -inf - -inf.
    const Real shift = sums.maximum == lowest[0] ? Real(0) : sums.maximum;
    scratch.shifts[begin / kSoftmaxBlock] = shift;
    RowSums<Real, kTiny> block = sums;  // of its own: what is returned lives in memory, not in registers
    for_registers<Real>(begin, end, [&](int64_t i, auto part) {
      __builtin_prefetch(row.input + i + kSoftmaxBlock);
      const Vector<Real> x = load_logits<kCapped>(row, scratch, i, part);
      const Vector<Real> e = exp(keep(x, part, lowest) - splat(shift));
      store(scratch.exponentials + i, e);
      block.exponentials += e;
      const HueRegister<Real> hue = row.hue_of(i, part);
      block.hue.add(row.hue, hue, part);
      if constexpr (kSoft) {
        const Vector<Real> q = row.soft(i, part);
        block.soft += q;
        block.hue.add_soft(row.hue, hue, q);
      }
    });
    sums = block;
  }
  return sums;
}

// sum_c q_c (maximum - x_c) over the soft part of q.
template <bool kCapped, class Row, class Real>
inline Real soft_margin(const Row& row, int64_t classes, Scratch<Real> scratch, Real maximum) {
  Vector<Real> sum{};
  for_registers<Real>(0, classes, [&](int64_t i, auto part) {
    const Vector<Real> margin = splat(maximum) - load_logits<kCapped>(row, scratch, i, part);
    sum += keep(row.soft(i, part) * margin, part, Vector<Real>{});
  });
  return sum_lanes(sum);
}

// Whether the target's logit is the first of the largest, as argmax counts.
template <bool kCapped, class Row, class Real>
inline bool is_correct(const Row& row, Scratch<Real> scratch, Real maximum) {
  const Real at_target = load_logits<kCapped>(row, scratch, row.target, Part{1})[0];
  if (!(at_target == maximum)) return false;
  const Vector<Real> lowest = splat(-static_cast<Real>(kInfinity));
  Vector<Real> largest = lowest;
  for_registers<Real>(0, row.target, [&](int64_t i, auto part) {
    largest = max(keep(load_logits<kCapped>(row, scratch, i, part), part, lowest), largest);
  });
  return row.target == 0 || max_lanes(largest) < at_target;
}

// gradient_c = factor e^(x_c - maximum) - row_scale q_c, times the slope of the cap, each written once.
template <bool kSoft, bool kCapped, class Row, class Element, class Real>
inline void write_gradient(const Row& row, const HueCrossEntropyRows& rows, Scratch<Real> scratch, Real maximum,
                           Real factor, Element* gradient) {
  const Vector<Real> row_scale = splat(row.scale);
  const auto value = [&](int64_t i, auto part, Vector<Real> block_factor) {
    Vector<Real> g = load<Vector<Real>>(scratch.exponentials + i) * block_factor;
    if constexpr (kSoft) g -= row.soft(i, part) * row_scale;
    if constexpr (kCapped) g *= row.slope(load<Vector<Real>>(scratch.capped + i));
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
    Vector<Real> hard = splat(static_cast<Real>(row.hard * row_scale[0]));
    if constexpr (kCapped) hard *= row.slope(load<Vector<Real>>(scratch.capped + row.target));
    at_target -= hard;
    store_elements(gradient + row.target, at_target, Part{1});
  }
}

// gradient_c = what a unit of t_c adds to the loss: its share of q_c times the surprise of class c, of the logits
// (maximum - x_c + log_sum) and of hue (log_partition - the exponent).
template <bool kCapped, class Row, class Real>
inline void write_probability_gradient(const Row& row, const HueCrossEntropyRows& rows, Scratch<Real> scratch,
                                       Real maximum, Real log_sum, Real log_partition, Real* gradient) {
  const Vector<Real> hue_weight = splat(static_cast<Real>(rows.hue_weight));
  for_registers<Real>(0, rows.classes, [&](int64_t i, auto part) {
    const Vector<Real> hue = splat(log_partition) - row.hue.exponent(row.hue_of(i, part));
    Vector<Real> share = splat(row.scale * row.given);
    if (row.weight) share *= load_elements(row.weight + i, part);
    const Vector<Real> surprise = splat(maximum) - load_logits<kCapped>(row, scratch, i, part) + splat(log_sum);
    store_elements(gradient + i, share * multiply_add(hue_weight, hue, surprise), part);
  });
}

// The gradient of the row's one point.
template <bool kSoft, class Row, class Sums, class Real>
inline void write_hue_gradient(const Row& row, const Sums& sums, Real scale, Real share, Real* gradient) {
  const HueRegister<Real> target = row.hue_of(row.target, Part{1});
  Real x = row.hard * target.dx[0] * target.inverse[0] - share * sum_lanes(sums.x);
  Real y = row.hard * target.dy[0] * target.inverse[0] - share * sum_lanes(sums.y);
  if constexpr (kSoft) {
    x += sum_lanes(sums.soft_x);
    y += sum_lanes(sums.soft_y);
  }
  gradient[0] = scale * x;
  gradient[1] = scale * y;
}

// The gradient of each class's point.
template <bool kSoft, class Row, class Real>
inline void write_hue_gradients(const Row& row, int64_t classes, Real scale, Real share, Real* gradient) {
  for_registers<Real>(0, classes, [&](int64_t i, auto part) {
    const HueRegister<Real> hue = row.hue_of(i, part);
    Vector<Real> coefficient = splat(-scale * share) * exp(row.hue.exponent(hue));
    if constexpr (kSoft) coefficient += row.soft(i, part) * splat(scale);
    const int64_t lane = row.target - i;
    if (lane >= 0 && lane < Lanes<Real>::count) coefficient[lane] += scale * row.hard;
    coefficient *= hue.inverse;
    store_pairs(gradient + 2 * i, coefficient * hue.dx, coefficient * hue.dy, part);
  });
}

template <bool kSoft, bool kTiny, bool kPerClass, bool kCapped, class Element>
inline void hue_cross_entropy_row(const HueCrossEntropyRows& rows, int64_t index, void* memory) {
  using Real = RealOf<Element>;
  HueCrossEntropyRow<Element, kPerClass> row(rows, index);
  row.hue.shift = row.shift(rows.classes, rows.hue_scale * rows.label_radius);
  const Scratch<Real> scratch(memory, rows.classes);
  const RowSums<Real, kTiny> sums = sum_row<kSoft, kTiny, kCapped>(row, rows.classes, scratch);

  const Real exponentials = sum_lanes(sums.exponentials), partition = sums.hue.partition(rows.classes);
  const Real total = row.hard + (kSoft ? sum_lanes(sums.soft) : Real(0));  // of q
  const double log_sum = __builtin_log(static_cast<double>(exponentials));
  double margin = 0, hue_margin = 0;  // sum_c q_c (maximum - x_c), and -sum_c q_c t_c
  if (!rows.probabilities) {
    margin = row.hard * static_cast<double>(sums.maximum - load_logits<kCapped>(row, scratch, row.target, Part{1})[0]);
    hue_margin = -row.hard * static_cast<double>(row.hue.exponent(row.hue_of(row.target, Part{1}))[0]);
  }
  if constexpr (kSoft) {
    margin += soft_margin<kCapped>(row, rows.classes, scratch, sums.maximum);
    hue_margin -= sum_lanes(sums.hue.soft_t);
  }
  const double log_partition = __builtin_log(static_cast<double>(partition));
  rows.loss[index] = total * log_sum + margin + rows.hue_weight * (total * log_partition + hue_margin);
  const double lse = static_cast<double>(sums.maximum) + log_sum;
  Real pull = total;  // of the softmax
  if (rows.lse_square_scale != 0) {
    const double square_scale = rows.lse_square_scale * static_cast<double>(row.counts);
    rows.loss[index] += square_scale * lse * lse;
    pull += static_cast<Real>(2 * square_scale * lse);
  }
  if (rows.lse) static_cast<Real*>(rows.lse)[index] = static_cast<Real>(lse);
  if (rows.correct) rows.correct[index] = lse == lse && is_correct<kCapped>(row, scratch, sums.maximum);

  if (!rows.grad_input) return;
  if constexpr (kSoft) {
    if (rows.grad_probabilities) {
      write_probability_gradient<kCapped>(row, rows, scratch, sums.maximum, static_cast<Real>(log_sum),
                                          static_cast<Real>(log_partition),
                                          static_cast<Real*>(rows.grad_probabilities) + index * rows.classes);
    }
  }
  write_gradient<kSoft, kCapped>(row, rows, scratch, sums.maximum, row.scale * pull / exponentials,
                                 static_cast<Element*>(rows.grad_input) + index * rows.classes);
  const Real scale = row.scale * static_cast<Real>(rows.hue_weight * rows.hue_scale);
  const Real share = total / partition;
  if constexpr (kPerClass) {
    write_hue_gradients<kSoft>(row, rows.classes, scale, share,
                               static_cast<Real*>(rows.grad_hue) + 2 * index * rows.classes);
  } else {
    write_hue_gradient<kSoft>(row, sums.hue, scale, share, static_cast<Real*>(rows.grad_hue) + 2 * index);
  }
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

template <bool kSoft, bool kTiny, bool kPerClass, bool kCapped, class Element>
void hue_cross_entropy_rows(const HueCrossEntropyRows& rows, int64_t begin, int64_t end, void* scratch) {
  for (int64_t row = begin; row < end; ++row) {
    if (!ignored(rows, row)) {
      hue_cross_entropy_row<kSoft, kTiny, kPerClass, kCapped, Element>(rows, row, scratch);
      continue;
    }
    rows.loss[row] = 0;
    if (rows.lse) static_cast<RealOf<Element>*>(rows.lse)[row] = 0;
    if (rows.correct) rows.correct[row] = false;
    if (!rows.grad_input) continue;
    const unsigned long bytes = sizeof(Element) * static_cast<unsigned long>(rows.classes);
    __builtin_memset(static_cast<Element*>(rows.grad_input) + row * rows.classes, 0, bytes);
    const int64_t points = kPerClass ? rows.classes : 1;
    const unsigned long hue_bytes = 2 * sizeof(RealOf<Element>) * static_cast<unsigned long>(points);
    __builtin_memset(static_cast<RealOf<Element>*>(rows.grad_hue) + 2 * row * points, 0, hue_bytes);
  }
  // Streamed stores become visible to other threads only behind a fence.
#if defined(__SSE2__)
  if (rows.stream) _mm_sfence();
#endif
}

template <bool kSoft, bool kPerClass, class Element>
HueCrossEntropyKernel rows_kernel(bool tiny, bool capped) {
  if (capped) return hue_cross_entropy_rows<kSoft, false, kPerClass, true, Element>;
  if constexpr (!kPerClass) {
    if (tiny) return hue_cross_entropy_rows<kSoft, true, false, false, Element>;
  }
  return hue_cross_entropy_rows<kSoft, false, kPerClass, false, Element>;
}

template <class Element>
void hue_cross_entropy(const HueCrossEntropyRows& rows, int64_t begin, int64_t end, void* scratch) {
  const bool soft = rows.probabilities || rows.label_smoothing != 0;
  const bool tiny = sizeof(RealOf<Element>) == 4 && rows.hue_scale * rows.label_radius <= 0x1.6ap-8;  // 2^-7.5
  const auto choose = rows.per_class ? (soft ? rows_kernel<true, true, Element> : rows_kernel<false, true, Element>)
                                     : (soft ? rows_kernel<true, false, Element> : rows_kernel<false, false, Element>);
  choose(tiny, rows.softcap != 0)(rows, begin, end, scratch);
}

template <bool kPerClass, class Element>
void sum_label_gradient(const HueCrossEntropyRows& rows, int64_t count, int64_t begin, int64_t end, void* grad_labels) {
  using Real = RealOf<Element>;
  const bool soft = rows.probabilities || rows.label_smoothing != 0;
  const Real hue_scale = static_cast<Real>(rows.hue_weight * rows.hue_scale);
  for_registers<Real>(begin, end, [&](int64_t i, auto part) {
    Vector<Real> x{}, y{};
    for (int64_t index = 0; index < count; ++index) {
      if (ignored(rows, index)) continue;
      HueCrossEntropyRow<Element, kPerClass> row(rows, index);
      const Real* state = static_cast<const Real*>(rows.row_state) + kRowState * index;
      row.hue.shift = splat(state[kShift]);
      const HueRegister<Real> hue = row.hue_of(i, part);
      Vector<Real> coefficient = splat(state[kPartition]) * exp(row.hue.exponent(hue));
      if (soft) coefficient -= row.soft(i, part) * splat(row.scale * hue_scale);
      const int64_t lane = row.target - i;
      if (lane >= 0 && lane < Lanes<Real>::count) coefficient[lane] -= state[kHard];
      coefficient *= hue.inverse;
      x = multiply_add(coefficient, hue.dx, x);
      y = multiply_add(coefficient, hue.dy, y);
    }
    for (int64_t c = i; c < end && c < i + Lanes<Real>::count; ++c) {
      static_cast<Real*>(grad_labels)[2 * c] = x[c - i];
      static_cast<Real*>(grad_labels)[2 * c + 1] = y[c - i];
    }
  });
}

template <class Element>
void hue_label_gradient(const HueCrossEntropyRows& rows, int64_t count, int64_t begin, int64_t end, void* grad_labels) {
  const auto kernel = rows.per_class ? sum_label_gradient<true, Element> : sum_label_gradient<false, Element>;
  kernel(rows, count, begin, end, grad_labels);
}

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
