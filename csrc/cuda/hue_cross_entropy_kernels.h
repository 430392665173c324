// The kernels of the hue loss; hue_cross_entropy.h says what they do. Included by hue_cross_entropy.cu only.
#pragma once

#include "cuda/hue_cross_entropy_row.h"

namespace pyhue::cuda {
namespace {

constexpr int kThreads = 256;

// The threads that share a row: a warp, of several in a block, or a whole block.
template <int kSize>
struct Team {
  static constexpr int kBlockThreads = kSize == 32 ? kThreads : kSize;
  static constexpr int kTeams = kBlockThreads / kSize;  // of a block

  __device__ static int rank() { return static_cast<int>(threadIdx.x) % kSize; }
  __device__ static int number() { return static_cast<int>(threadIdx.x) / kSize; }

  // `operation`, commutative, over the values of all threads; the same bits in each.
  template <class Real, class Operation>
  __device__ Real reduce(Real value, Operation operation) const {
    for (int mask = 16; mask > 0; mask /= 2) value = operation(value, __shfl_xor_sync(kFullMask, value, mask));
    if constexpr (kSize > 32) {
      __shared__ Real of_warp[kSize / 32];
      __syncthreads();  // the values of the last call have been read
      if (rank() % 32 == 0) of_warp[rank() / 32] = value;
      __syncthreads();
      value = of_warp[0];
      for (int warp = 1; warp < kSize / 32; ++warp) value = operation(value, of_warp[warp]);
    }
    return value;
  }

  // Every value's sum over all threads; the same bits in each.
  template <class Real, int kCount>
  __device__ void add(Real (&values)[kCount]) const {
#pragma unroll
    for (Real& value : values) {
      for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullMask, value, mask);
    }
    if constexpr (kSize > 32) {
      __shared__ Real of_warp[kSize / 32][kCount];
      __syncthreads();  // the values of the last call have been read
      if (rank() % 32 == 0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) of_warp[rank() / 32][i] = values[i];
      }
      __syncthreads();
#pragma unroll
      for (Real& value : values) value = 0;
#pragma unroll 1
      for (int warp = 0; warp < kSize / 32; ++warp) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) values[i] += of_warp[warp][i];
      }
    }
  }
};

// A row cut into vectors of 16 bytes at aligned addresses; piece 0 is what comes before the first of them, perhaps
// nothing. A team keeps the first `held` pieces in shared memory.
template <class Element>
struct Pieces {
  using Real = RealOf<Element>;
  static constexpr int kLength = Vector<Element>::kLength;

  __device__ Pieces(const Element* row, int64_t classes, Vector<Element>* shared, int held)
      : row(row), classes(classes), shared(shared), held(held) {
    const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) / sizeof(Element) % kLength);
    head = past == 0 ? 0 : kLength - past < classes ? kLength - past : classes;
    count = 1 + (classes - head + kLength - 1) / kLength;
  }

  __device__ int64_t begin(int64_t piece) const { return piece == 0 ? 0 : head + (piece - 1) * kLength; }
  __device__ int length(int64_t piece) const {
    const int64_t rest = piece == 0 ? head : classes - begin(piece);
    return static_cast<int>(rest < kLength ? rest : kLength);
  }

  // From memory on the first visit, then from shared memory where the piece is held.
  __device__ void load(int64_t piece, bool first, Real (&values)[kLength]) const {
    Vector<Element> vector{};
    if (!first && piece < held) {
      vector = shared[piece];
    } else if (piece > 0 && length(piece) == kLength) {
      vector = *reinterpret_cast<const Vector<Element>*>(row + begin(piece));
    } else {
#pragma unroll
      for (int i = 0; i < kLength; ++i) {
        if (i < length(piece)) vector.values[i] = row[begin(piece) + i];
      }
    }
    if (first && piece < held) shared[piece] = vector;
#pragma unroll
    for (int i = 0; i < kLength; ++i) values[i] = widen(vector.values[i]);
  }

  // To a row of the same alignment, or of any where not `aligned`.
  __device__ void store(int64_t piece, Element* to, bool aligned, const Real (&values)[kLength]) const {
    Vector<Element> vector;
#pragma unroll
    for (int i = 0; i < kLength; ++i) narrow(values[i], vector.values[i]);
    if (aligned && piece > 0 && length(piece) == kLength) {
      *reinterpret_cast<Vector<Element>*>(to + begin(piece)) = vector;
    } else {
#pragma unroll
      for (int i = 0; i < kLength; ++i) {
        if (i < length(piece)) to[begin(piece) + i] = vector.values[i];
      }
    }
  }

  const Element* row;
  int64_t classes, head, count;
  Vector<Element>* shared;
  int held;
};

// Where a call's intermediate results go.
struct Work {
  const double* total;  // what the mean divides by; null: 1
  double* row_loss;     // (rows,)
  void* row_state;      // (rows, kRowState) (real), or null
};

// Whether the target's logit is the first of the largest, as argmax counts; asked by the whole team, before a gradient
// takes the place of a logit.
template <int kTeam, class Value, class Real>
__device__ inline bool is_correct(const Value& value, int64_t classes, int64_t target, Real at_target, Real maximum) {
  if (at_target < maximum && at_target > -kInfinity<Real>) return false;  // of infinities the maximum may not tell
  Real before = 0;                                                        // how many come before it
  for (int64_t c = Team<kTeam>::rank(); c < classes; c += kTeam) {
    const Real other = value(c);
    if (other > at_target || (other == at_target && c < target)) before = 1;
  }
  return Team<kTeam>{}.reduce(before, [](Real a, Real b) { return a + b; }) == 0;
}

// What is asked of a row besides.
template <class Real>
__device__ inline void write_of_row(const HueCrossEntropy& loss, int64_t index, double lse, bool correct) {
  if (loss.lse) static_cast<Real*>(loss.lse)[index] = static_cast<Real>(lse);
  if (loss.correct) loss.correct[index] = correct && lse == lse;
}

// The factor of the squared log-sum-exp in the loss.
template <class RowType>
__device__ inline double square_scale_of(const HueCrossEntropy& loss, const RowType& row) {
  return loss.lse_square_scale * static_cast<double>(row.counts);
}

// The gradients of a row; returns sum_c q_c (maximum - x_c) over the soft part of q, this thread's share. Of a
// probability it is what a unit of it adds to the loss: its share of q_c times the surprise of class c, in both terms.
// `pull` is what the softmax is multiplied by, `total` the sum of q.
template <bool kSoft, bool kPerClass, bool kCapped, int kTeam, class Element, class RowType, class SumsType>
__device__ inline RealOf<Element> write_gradients(const HueCrossEntropy& loss, int64_t index, const RowType& row,
                                                  const SumsType& sums, const Pieces<Element>& pieces,
                                                  RealOf<Element> total, RealOf<Element> pull) {
  using Real = RealOf<Element>;
  constexpr int kLength = Pieces<Element>::kLength;
  Element* gradient = static_cast<Element*>(loss.grad_input) + (loss.grad_input ? index * row.classes : 0);
  const bool aligned = (reinterpret_cast<uintptr_t>(gradient) - reinterpret_cast<uintptr_t>(pieces.row)) % 16 == 0;
  Real* hue_gradient = static_cast<Real*>(loss.grad_hue) + (loss.grad_hue && kPerClass ? 2 * index * row.classes : 0);
  const Real factor = row.scale * pull / sums.exponentials, shift = shift_of(sums.maximum);
  const Real hue_scale = row.scale * static_cast<Real>(loss.hue_weight * loss.hue_scale);
  const Real hue_factor = hue_scale * total / sums.partition, hue_shift = shift_of(sums.hue_maximum);
  Real* const target_gradient =
      kSoft && loss.grad_probabilities ? static_cast<Real*>(loss.grad_probabilities) + index * row.classes : nullptr;
  const Real log_sum = log(sums.exponentials), log_partition = log(sums.partition);
  Real margin = 0;
  for (int64_t piece = Team<kTeam>::rank(); piece < pieces.count; piece += kTeam) {
    Real values[kLength];
    pieces.load(piece, false, values);
#pragma unroll
    for (int i = 0; i < kLength; ++i) {
      if (i >= pieces.length(piece)) continue;
      const int64_t c = pieces.begin(piece) + i;
      if (kCapped) values[i] = row.capped(values[i]);
      const Real slope = kCapped ? row.slope(values[i]) : Real(1);
      Real q = c == row.target ? row.hard : 0;
      if (kSoft) {
        const Real soft = row.soft(c);
        margin += soft * (sums.maximum - values[i]);
        q += soft;
        if (target_gradient) {
          const Real hue = sums.hue_maximum - row.hue(c).t + log_partition;
          target_gradient[c] = row.scale * row.given * (row.weight ? row.weight[c] : Real(1)) *
                               (sums.maximum - values[i] + log_sum + static_cast<Real>(loss.hue_weight) * hue);
        }
      }
      values[i] = factor * exponential(values[i] - shift) - row.scale * q;
      if (kCapped) values[i] *= slope;
      if (!kPerClass || !loss.grad_input) continue;
      const HueTerm<Real> hue = row.hue(c);
      const Real coefficient = hue_scale * q - hue_factor * exponential(hue.t - hue_shift);
      hue_gradient[2 * c] = coefficient * hue.unit_x;
      hue_gradient[2 * c + 1] = coefficient * hue.unit_y;
    }
    if (loss.grad_input) pieces.store(piece, gradient, aligned, values);
  }
  return margin;
}

// An ignored row: no loss, gradients of zero.
template <bool kPerClass, int kTeam, class Element>
__device__ inline void write_zeros(const HueCrossEntropy& loss, int64_t index) {
  if (!loss.grad_input) return;
  Element zero;
  narrow(RealOf<Element>(0), zero);
  const int64_t points = 2 * (kPerClass ? loss.classes : 1);
  for (int64_t c = Team<kTeam>::rank(); c < loss.classes; c += kTeam) {
    static_cast<Element*>(loss.grad_input)[index * loss.classes + c] = zero;
  }
  for (int64_t i = Team<kTeam>::rank(); i < points; i += kTeam) {
    static_cast<RealOf<Element>*>(loss.grad_hue)[index * points + i] = 0;
  }
}

template <class Element>
__device__ inline void write_loss_of_row(const HueCrossEntropy& loss, const Work& work, int64_t index, double value) {
  if (loss.reduction == Reduction::kNone) {
    static_cast<RealOf<Element>*>(loss.loss)[index] = static_cast<RealOf<Element>>(value);
  } else {
    work.row_loss[index] = value;
  }
}

// A team for each row; `held` pieces of each are kept in shared memory.
template <class Element, bool kSoft, bool kPerClass, bool kCapped, int kTeam>
__global__ void __launch_bounds__(Team<kTeam>::kBlockThreads) hue_rows(HueCrossEntropy loss, Work work, int held) {
  using Real = RealOf<Element>;
  const Team<kTeam> team;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * Team<kTeam>::kTeams + Team<kTeam>::number();
  if (index >= loss.rows) return;
  const bool first = Team<kTeam>::rank() == 0;
  const double row_scale = work.total ? 1 / *work.total : 1;
  const Row<Real, kSoft, kPerClass> row(loss, index, row_scale);
  if (row.ignored) {
    if (first) {
      write_loss_of_row<Element>(loss, work, index, 0);
      write_of_row<Real>(loss, index, 0, false);
    }
    return write_zeros<kPerClass, kTeam, Element>(loss, index);
  }
  const Element* input = static_cast<const Element*>(loss.input) + index * loss.classes;
  const Pieces<Element> pieces(
      input, loss.classes, reinterpret_cast<Vector<Element>*>(dynamic_shared()) + Team<kTeam>::number() * held, held);
  const auto logit = [&](int64_t c) { return kCapped ? row.capped(widen(input[c])) : widen(input[c]); };
  const Real at_target = row.target < 0 ? Real(0) : logit(row.target);  // before a gradient takes its place
  Sums<Real, kSoft> sums;
  for (int64_t piece = Team<kTeam>::rank(); piece < pieces.count; piece += kTeam) {
    Real values[Pieces<Element>::kLength];
    pieces.load(piece, true, values);
    if constexpr (kCapped) {
#pragma unroll
      for (Real& value : values) value = row.capped(value);
    }
    sums.add(row, pieces.begin(piece), pieces.length(piece), values);
  }
  sums.combine(team);

  const Real total = row.hard + sums.soft;  // of q
  const double log_sum = log(static_cast<double>(sums.exponentials));
  const double lse = log_sum + static_cast<double>(sums.maximum);
  Real pull = total;
  if (loss.lse_square_scale != 0) pull += static_cast<Real>(2 * square_scale_of(loss, row) * lse);
  const bool correct = loss.correct && is_correct<kTeam>(logit, loss.classes, row.target, at_target, sums.maximum);
  Real soft_margin = 0;
  if (kSoft || loss.grad_input) {
    soft_margin = write_gradients<kSoft, kPerClass, kCapped, kTeam>(loss, index, row, sums, pieces, total, pull);
  }
  if (kSoft) soft_margin = team.reduce(soft_margin, [](Real a, Real b) { return a + b; });
  if (!first) return;

  double margin = soft_margin, hue_margin = -sums.soft_t;  // sum_c q_c (maximum - x_c), and -sum_c q_c t_c
  HueTerm<Real> hue{0, 0, 0};
  if (row.target >= 0) {
    hue = row.hue(row.target);
    margin += row.hard * static_cast<double>(sums.maximum - at_target);
    hue_margin -= static_cast<double>(row.hard) * hue.t;
  }
  const double log_partition = log(static_cast<double>(sums.partition)) + sums.hue_maximum;
  double value = total * log_sum + margin + loss.hue_weight * (total * log_partition + hue_margin);
  if (loss.lse_square_scale != 0) value += square_scale_of(loss, row) * lse * lse;
  write_loss_of_row<Element>(loss, work, index, value);
  write_of_row<Real>(loss, index, lse, correct);
  if (!loss.grad_input) return;
  const Real scale = row.scale * static_cast<Real>(loss.hue_weight * loss.hue_scale), share = total / sums.partition;
  if (!kPerClass) {
    Real* gradient = static_cast<Real*>(loss.grad_hue) + 2 * index;
    gradient[0] = scale * (row.hard * hue.unit_x + sums.soft_x - share * sums.x);
    gradient[1] = scale * (row.hard * hue.unit_y + sums.soft_y - share * sums.y);
  }
  if (work.row_state) {
    Real* state = static_cast<Real*>(work.row_state) + kRowState * index;
    state[kShift] = shift_of(sums.hue_maximum);
    state[kPartition] = scale * share;
    state[kHard] = scale * row.hard;
  }
}

}  // namespace
}  // namespace pyhue::cuda
