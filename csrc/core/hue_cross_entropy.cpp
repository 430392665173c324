#include "core/hue_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

constexpr int64_t kRegisterBytes = 64;       // the widest level's
constexpr int64_t kChunkLogits = 16 * 1024;  // of a chunk of rows: about 10 us of work
constexpr int64_t kStreamBytes = int64_t{8} << 20;

struct Deleter {
  void operator()(char* memory) const { ::operator delete(memory, std::align_val_t{kRegisterBytes}); }
};
using Buffer = std::unique_ptr<char, Deleter>;

Buffer buffer(int64_t bytes) {
  return Buffer(static_cast<char*>(::operator new(static_cast<size_t>(bytes), std::align_val_t{kRegisterBytes})));
}

int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The labels' coordinates in two arrays, padded with zeros to whole registers, and their largest length.
template <class Real>
struct LabelTable {
  LabelTable(const void* labels, int64_t classes)
      : padded(rounded_up(classes, kRegisterBytes / static_cast<int64_t>(sizeof(Real)))),
        memory(buffer(2 * padded * static_cast<int64_t>(sizeof(Real)))) {
    const Real* from = static_cast<const Real*>(labels);
    Real* x = this->x();
    Real* y = x + padded;
    std::fill(x + classes, x + padded, Real(0));
    std::fill(y + classes, y + padded, Real(0));
    Real largest = 0;
    for (int64_t c = 0; c < classes; ++c) {
      x[c] = from[2 * c];
      y[c] = from[2 * c + 1];
      const Real squared = x[c] * x[c] + y[c] * y[c];
      if (!(squared <= largest)) largest = squared;  // a NaN stays
    }
    radius = std::sqrt(static_cast<double>(largest)) * (1 + 1e-6);
  }
  Real* x() const { return reinterpret_cast<Real*>(memory.get()); }

  int64_t padded;
  Buffer memory;
  double radius;
};

// What the mean divides by; every target is checked on the way.
template <class Real>
double total_weight(const HueCrossEntropy& loss) {
  if (!loss.target) return static_cast<double>(loss.rows);
  const Real* weight = static_cast<const Real*>(loss.weight);
  double total = 0;
  for (int64_t row = 0; row < loss.rows; ++row) {
    const int64_t target = loss.target[row];
    if (target == loss.ignore_index) continue;
    if (target < 0 || target >= loss.classes) {
      throw std::out_of_range("Target " + std::to_string(target) + " is out of bounds.");
    }
    total += weight ? static_cast<double>(weight[target]) : 1.0;
  }
  return total;
}

template <class Real>
void reduce(const HueCrossEntropy& loss, const std::vector<double>& row_loss, double total) {
  Real* out = static_cast<Real*>(loss.loss);
  if (loss.reduction == Reduction::kNone) {
    std::transform(row_loss.begin(), row_loss.end(), out, [](double value) { return static_cast<Real>(value); });
    return;
  }
  double sum = 0;
  for (const double value : row_loss) sum += value;
  *out = static_cast<Real>(loss.reduction == Reduction::kMean ? sum / total : sum);
}

template <class Real>
void run(const HueCrossEntropy& loss, Executor executor) {
  const double total = total_weight<Real>(loss);
  const LabelTable<Real> labels(loss.labels, loss.classes);
  std::vector<double> row_loss(static_cast<size_t>(loss.rows));
  std::vector<Real> row_state(static_cast<size_t>(loss.grad_labels ? kRowState * loss.rows : 0));
  const int64_t element_bytes = loss.type == kFloat64 ? 8 : loss.type == kFloat32 ? 4 : 2;
  const HueCrossEntropyRows rows{
      .classes = loss.classes,
      .input = loss.input,
      .hue = loss.hue,
      .per_class = loss.per_class,
      .target = loss.target,
      .probabilities = loss.probabilities,
      .label_x = labels.x(),
      .label_y = labels.x() + labels.padded,
      .weight = loss.weight,
      .ignore_index = loss.ignore_index,
      .label_smoothing = loss.label_smoothing,
      .lse_square_scale = loss.lse_square_scale,
      .softcap = loss.softcap,
      .hue_weight = loss.hue_weight,
      .hue_scale = loss.hue_scale,
      .label_radius = labels.radius,
      .row_scale = loss.reduction == Reduction::kMean ? 1 / total : 1,
      .row_weight = loss.row_weight,
      .loss = row_loss.data(),
      .grad_input = loss.grad_input,
      .grad_hue = loss.grad_hue,
      .grad_probabilities = loss.grad_probabilities,
      .row_state = loss.grad_labels ? row_state.data() : nullptr,
      .lse = loss.lse,
      .correct = loss.correct,
      .stream = element_bytes >= 4 && loss.rows * loss.classes * element_bytes >= kStreamBytes,
  };

  const Kernels& table = kernels();
  const int64_t chunk = std::max<int64_t>(1, kChunkLogits / loss.classes);
  const int64_t chunks = rounded_up(loss.rows, chunk) / chunk;
  executor.workers = static_cast<int>(std::min<int64_t>(executor.workers, std::max<int64_t>(1, chunks)));
  const int64_t of_classes = loss.classes + 2 * kRegisterBytes;
  const int64_t scratch_reals =
      (loss.softcap != 0 ? 2 : 1) * of_classes + rounded_up(loss.classes, kSoftmaxBlock) / kSoftmaxBlock;
  const int64_t scratch_bytes = rounded_up(scratch_reals * static_cast<int64_t>(sizeof(Real)), kRegisterBytes);
  const Buffer scratch = buffer(executor.workers * scratch_bytes);
  for_each_chunk(executor, chunks, [&](int64_t index, int worker) {
    const int64_t end = std::min(loss.rows, (index + 1) * chunk);
    table.hue_cross_entropy[loss.type](rows, index * chunk, end, scratch.get() + worker * scratch_bytes);
  });
  reduce<Real>(loss, row_loss, total);

  if (!loss.grad_labels) return;
  const int64_t step = kRegisterBytes / static_cast<int64_t>(sizeof(Real));
  for_each_chunk(executor, labels.padded / step, [&](int64_t index, int) {
    const int64_t end = std::min(loss.classes, (index + 1) * step);
    table.hue_label_gradient[loss.type](rows, loss.rows, index * step, end, loss.grad_labels);
  });
}

}  // namespace

void hue_cross_entropy(const HueCrossEntropy& loss, const Executor& executor) {
  if (loss.type == kFloat64) {
    run<double>(loss, executor);
  } else {
    run<float>(loss, executor);
  }
}

}  // namespace pyhue
