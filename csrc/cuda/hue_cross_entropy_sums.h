// Sums over rows: what the mean divides by, the loss, the gradient of the labels. Included by hue_cross_entropy.cu
// only.
#pragma once

#include "cuda/hue_cross_entropy_kernels.h"

namespace pyhue::cuda {
namespace {

constexpr int kSumThreads = 1024;
constexpr int64_t kPartialRows = 16384;  // summed by a block: for most batches the only one
constexpr int64_t kMostPartials = 256;
constexpr int64_t kSliceRows = 256;  // of the labels' gradient, summed by a thread
constexpr int64_t kMostSlices = 64;

struct Given {
  const double* values;
  __device__ double operator()(int64_t i) const { return values[i]; }
};

// What a row adds to what the mean divides by; NaN where its target is out of bounds.
template <class Real>
struct TargetWeight {
  HueCrossEntropy loss;
  __device__ double operator()(int64_t row) const {
    if (!loss.target) return 1;
    const int64_t target = loss.target[row];
    if (target == loss.ignore_index) return 0;
    if (target < 0 || target >= loss.classes) return std::numeric_limits<double>::quiet_NaN();
    return loss.weight ? static_cast<double>(static_cast<const Real*>(loss.weight)[target]) : 1.0;
  }
};

// Where a sum goes.
struct ToArray {
  double* sums;
  __device__ void operator()(double sum) const { sums[blockIdx.x] = sum; }
};
template <class Real>
struct ToLoss {
  const double* total;
  Real* loss;
  __device__ void operator()(double sum) const { *loss = static_cast<Real>(total ? sum / *total : sum); }
};

// Block b sums the values b, b + blocks, ... of each thread, then those of its threads.
template <class Value, class To>
__global__ void __launch_bounds__(kSumThreads) sum_values(Value value, int64_t count, To to) {
  double sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kSumThreads;
#pragma unroll 8
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x; i < count; i += step) sum += value(i);
  sum = Team<kSumThreads>{}.reduce(sum, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) to(sum);
}

// The losses of rows whose terms were computed apart.
template <class Real>
__global__ void __launch_bounds__(kThreads) add_terms(const double* terms, int64_t rows, Real* loss) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < rows) loss[i] = static_cast<Real>(terms[i] + terms[rows + i]);
}

// A thread for each class, over a slice of the rows in order: (slices, classes, 2).
template <class Real, bool kSoft, bool kPerClass>
__global__ void __launch_bounds__(kThreads) label_gradients(HueCrossEntropy loss, Work work, Real* partial) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= loss.classes) return;
  const int64_t begin = loss.rows * blockIdx.y / gridDim.y, end = loss.rows * (blockIdx.y + 1) / gridDim.y;
  const double row_scale = work.total ? 1 / *work.total : 1;
  const Real hue_scale = static_cast<Real>(loss.hue_weight * loss.hue_scale);
  Real x = 0, y = 0;
  for (int64_t index = begin; index < end; ++index) {
    const Row<Real, kSoft, kPerClass> row(loss, index, row_scale);
    if (row.ignored) continue;
    const Real* state = static_cast<const Real*>(work.row_state) + kRowState * index;
    if constexpr (!kSoft && !kPerClass) {
      const Span<Real> span(row.x - row.labels[2 * c], row.y - row.labels[2 * c + 1]);
      Real coefficient = state[kPartition] * span.exponential(state[kShift], row.hue_scale);
      if (c == row.target) coefficient -= state[kHard];
      x += coefficient * span.inverse * span.dx;
      y += coefficient * span.inverse * span.dy;
      continue;
    }
    const HueTerm<Real> hue = row.hue(c);
    Real coefficient = state[kPartition] * exponential(hue.t - state[kShift]);
    if (kSoft) coefficient -= row.soft(c) * row.scale * hue_scale;
    if (c == row.target) coefficient -= state[kHard];
    x += coefficient * hue.unit_x;
    y += coefficient * hue.unit_y;
  }
  partial[2 * (blockIdx.y * loss.classes + c)] = x;
  partial[2 * (blockIdx.y * loss.classes + c) + 1] = y;
}

template <class Real>
__global__ void __launch_bounds__(kThreads) add_slices(const Real* partial, int64_t slices, int64_t count, Real* to) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  Real sum = 0;
  for (int64_t slice = 0; slice < slices; ++slice) sum += partial[slice * count + i];
  to[i] = sum;
}

}  // namespace
}  // namespace pyhue::cuda
