// The hue loss where a row's target is a class and its hue a point: most calls. The two softmaxes share nothing then,
// so they are computed apart, by blocks of one launch: those of the logits wait for memory, those of the points
// compute. Included by hue_cross_entropy.cu only.
#pragma once

#include "cuda/hue_cross_entropy_points.h"

namespace pyhue::cuda {
namespace {

constexpr int kBatch = 4;  // vectors that a thread loads before it uses the first

template <class Real>
constexpr Real kLargest = std::numeric_limits<Real>::max();

// e^(x - maximum) = 2^(x log2(e) - shift): one multiply-add and one exponential.
template <class Real>
struct Exponential {
  __device__ explicit Exponential(Real maximum)
      : maximum(maximum),
        // Finite from below: minus infinity less the shift is to be no NaN.
        shift(larger(maximum * kLog2E<Real>, -kLargest<Real>)) {}

  __device__ Real of(Real x) const { return power_of_two(multiply_add(x, kLog2E<Real>, -shift)); }
  // Whether logits are so large that their product with log2(e) may overflow; then this takes the place of `of`.
  __device__ bool wide() const { return maximum < kInfinity<Real> && larger(maximum, -maximum) > kLargest<Real> / 2; }
  __device__ Real wide_of(Real x) const { return power_of_two((x - maximum) * kLog2E<Real>); }
  __device__ Real any_of(Real x) const { return wide() ? wide_of(x) : of(x); }

  // maximum - x, of the maximum that the shift stands for.
  __device__ double above(Real x) const {
    if (wide()) return static_cast<double>(maximum - x);
    constexpr double kPerLog = 1 / static_cast<double>(kLog2E<Real>);
    return static_cast<double>(shift) * kPerLog - static_cast<double>(x);
  }

  Real maximum, shift;
};

// The logits of a row: vectors of 16 bytes at aligned addresses, which the threads of a team take in turn, and at both
// ends fewer elements than a vector has, each of which has a thread of its own. The first `held` vectors stay in shared
// memory.
template <class Element, int kTeam>
struct Logits {
  using Real = RealOf<Element>;
  static constexpr int kLength = 2 * Packed<Element>::kPairs;

  __device__ Logits(const Element* row, int64_t classes, Packed<Element>* shared, int held)
      : row(row), shared(shared), held(held) {
    const int past = static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(Element) % kLength);
    head = static_cast<int>(past == 0 ? 0 : kLength - past < classes ? kLength - past : classes);
    count = static_cast<int>((classes - head) / kLength);
    const int edges = static_cast<int>(classes - static_cast<int64_t>(count) * kLength);
    const int rank = Team<kTeam>::rank();
    edge = rank >= edges ? -1 : rank < head ? rank : classes - edges + rank;
  }

  __device__ const Packed<Element>& vector(int i) const {
    return reinterpret_cast<const Packed<Element>*>(row + head)[i];
  }
  __device__ Real edge_value() const { return edge < 0 ? -kInfinity<Real> : widen(row[edge]); }
  // The thread that writes the gradient of class c.
  __device__ int owner(int64_t c) const {
    if (c < head) return static_cast<int>(c);
    const int64_t i = (c - head) / kLength;
    return i < count ? static_cast<int>(i % kTeam) : head + static_cast<int>(c - head - i * kLength);
  }

  const Element* row;
  Packed<Element>* shared;
  int held, head, count;
  int64_t edge;  // the class that is this thread's own, or -1
};

// This thread's share of the row's sum of e^(x - maximum), and its maximum.
template <class Element, int kTeam>
__device__ inline RealOf<Element> sum_logits(const Logits<Element, kTeam>& logits, RealOf<Element>& maximum) {
  using Real = RealOf<Element>;
  constexpr int kStep = kBatch * kTeam;
  const Real edge = logits.edge_value();
  Exponential<Real> exponential(larger(edge, -kLargest<Real>));
  Real sum = exponential.of(edge);
  const auto add_batch = [&]<bool kFull>(int begin) {
    Packed<Element> vectors[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = begin + j * kTeam;
      vectors[j] = kFull || i < logits.count ? logits.vector(i) : packed_of<Element>(-kInfinity<Real>);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = begin + j * kTeam;
      if (i < logits.held) logits.shared[i] = vectors[j];
    }
    const Real before = exponential.shift;
    exponential = Exponential<Real>(larger(exponential.maximum, largest_of(vectors)));
    sum *= power_of_two(before - exponential.shift);
    Real sums[kBatch] = {};  // one would be a long chain
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
#pragma unroll
      for (int k = 0; k < Packed<Element>::kPairs; ++k) {
        Real x[2];
        widen(vectors[j], k, x);
        sums[j] += exponential.of(x[0]);
        sums[j] += exponential.of(x[1]);
      }
    }
    sum += (sums[0] + sums[1]) + (sums[2] + sums[3]);
  };
  int begin = 0;
  for (; begin + kStep <= logits.count; begin += kStep) {
    add_batch.template operator()<true>(begin + Team<kTeam>::rank());
  }
  if (begin < logits.count) add_batch.template operator()<false>(begin + Team<kTeam>::rank());
  maximum = exponential.maximum;
  return sum;
}

// gradient_c = factor e^(x_c - maximum), to a row of the same alignment.
template <class Element, int kTeam>
__device__ inline void write_softmax(const Logits<Element, kTeam>& logits,
                                     const Exponential<RealOf<Element>>& exponential, RealOf<Element> factor,
                                     Element* gradient) {
  using Real = RealOf<Element>;
  constexpr int kStep = kBatch * kTeam;
  if (logits.edge >= 0) narrow(factor * exponential.of(logits.edge_value()), gradient[logits.edge]);
  Packed<Element>* const to = reinterpret_cast<Packed<Element>*>(gradient + logits.head);
  const auto write_batch = [&]<bool kFull>(int begin) {
    Packed<Element> vectors[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = begin + j * kTeam;
      if (kFull || i < logits.count) vectors[j] = i < logits.held ? logits.shared[i] : logits.vector(i);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = begin + j * kTeam;
      Packed<Element> values;
#pragma unroll
      for (int k = 0; k < Packed<Element>::kPairs; ++k) {
        Real x[2];
        widen(vectors[j], k, x);
        narrow({factor * exponential.of(x[0]), factor * exponential.of(x[1])}, values, k);
      }
      if (kFull || i < logits.count) to[i] = values;
    }
  };
  int begin = 0;
  for (; begin + kStep <= logits.count; begin += kStep) {
    write_batch.template operator()<true>(begin + Team<kTeam>::rank());
  }
  if (begin < logits.count) write_batch.template operator()<false>(begin + Team<kTeam>::rank());
}

// The same one by one, for rows that are seldom: thread r has the classes r, r + kTeam, ... A gradient may take the
// place of its logit.
template <int kTeam, class Element>
__device__ inline RealOf<Element> sum_slowly(const Element* input, int64_t classes,
                                             const Exponential<RealOf<Element>>& exponential) {
  RealOf<Element> sum = 0;
  for (int64_t c = Team<kTeam>::rank(); c < classes; c += kTeam) sum += exponential.wide_of(widen(input[c]));
  return sum;
}
template <int kTeam, class Element>
__device__ inline void write_slowly(const Element* input, int64_t classes,
                                    const Exponential<RealOf<Element>>& exponential, RealOf<Element> factor,
                                    Element* gradient) {
  for (int64_t c = Team<kTeam>::rank(); c < classes; c += kTeam) {
    narrow(factor * exponential.any_of(widen(input[c])), gradient[c]);
  }
}

// The one-hot term of a row.
template <class Element, int kTeam>
__device__ inline void write_row(const HueCrossEntropy& loss, const Work& work, int64_t index, int held) {
  using Real = RealOf<Element>;
  if (index >= loss.rows) return;
  const Team<kTeam> team;
  const bool first = Team<kTeam>::rank() == 0;
  const Row<Real, false, false> row(loss, index, 1);  // what the mean divides by is waited for later
  Element* gradient = static_cast<Element*>(loss.grad_input) + (loss.grad_input ? index * loss.classes : 0);
  if (row.ignored) {
    if (first) {
      work.row_loss[index] = 0;
      write_of_row<Real>(loss, index, 0, false);
    }
    if (!loss.grad_input) return;
    for (int64_t c = Team<kTeam>::rank(); c < loss.classes; c += kTeam) narrow(Real(0), gradient[c]);
    return;
  }
  const Element* input = static_cast<const Element*>(loss.input) + index * loss.classes;
  const Logits<Element, kTeam> logits(
      input, loss.classes, reinterpret_cast<Packed<Element>*>(dynamic_shared()) + Team<kTeam>::number() * held, held);
  const Real at_target = widen(input[row.target]);  // before a gradient takes its place

  Real maximum;
  Real sum = sum_logits(logits, maximum);
  const Exponential<Real> own(maximum);
  const Exponential<Real> exponential(team.reduce(maximum, [](Real a, Real b) { return larger(a, b); }));
  sum *= power_of_two(own.shift - exponential.shift);
  if (exponential.wide()) sum = sum_slowly<kTeam>(input, loss.classes, exponential);
  sum = team.reduce(sum, [](Real a, Real b) { return a + b; });
  const double log_sum = static_cast<double>(log(sum)), lse = log_sum + exponential.above(0);
  double value = row.hard * (log_sum + exponential.above(at_target));
  Real pull = row.hard;  // of the softmax
  if (loss.lse_square_scale != 0) {
    const double square_scale = square_scale_of(loss, row);
    value += square_scale * lse * lse;
    pull += static_cast<Real>(2 * square_scale * lse);
  }
  const auto logit = [input](int64_t c) { return widen(input[c]); };
  const bool correct =
      loss.correct && is_correct<kTeam>(logit, loss.classes, row.target, at_target, exponential.maximum);
  if (first) {
    work.row_loss[index] = value;
    write_of_row<Real>(loss, index, lse, correct);
  }
  if (!loss.grad_input) return;

  const Real row_scale = row.scale * row_scale_of<Real>(work), scale = row_scale * row.hard;
  const Real factor = row_scale * pull / sum;
  const bool aligned = (reinterpret_cast<uintptr_t>(gradient) - reinterpret_cast<uintptr_t>(input)) % 16 == 0;
  const bool slowly = !aligned || exponential.wide();
  if (slowly) {
    write_slowly<kTeam>(input, loss.classes, exponential, factor, gradient);
  } else {
    write_softmax(logits, exponential, factor, gradient);
  }
  // The thread that has just written the target's gradient writes it once more.
  const int64_t owner = slowly ? row.target % kTeam : logits.owner(row.target);
  if (Team<kTeam>::rank() == owner) narrow(factor * exponential.any_of(at_target) - scale, gradient[row.target]);
}

// Of kPoints + 1 blocks the first has the hue of the rows whose logits the others have; it takes longest.
template <class Element, int kTeam>
__global__ void __launch_bounds__(Team<kTeam>::kBlockThreads,
                                  sizeof(RealOf<Element>) == 8 ? 1 : 1024 / Team<kTeam>::kBlockThreads)
    hard_rows(HueCrossEntropy loss, Work work, int held) {
  constexpr int kTeams = Team<kTeam>::kTeams;
  const int64_t turn = blockIdx.x / (kPoints + 1);
  const int role = static_cast<int>(blockIdx.x % (kPoints + 1));
  if (role == 0) {
    write_points<RealOf<Element>, kTeam>(loss, work, turn * kTeams + Team<kTeam>::number());
  } else {
    write_row<Element, kTeam>(loss, work, (turn * kPoints + role - 1) * kTeams + Team<kTeam>::number(), held);
  }
}

}  // namespace
}  // namespace pyhue::cuda
