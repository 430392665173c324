#include <algorithm>

#include "cuda/hue_cross_entropy.h"
#include "cuda/hue_cross_entropy_kernels.h"
#include "cuda/hue_cross_entropy_scale.h"
#include "cuda/hue_cross_entropy_sums.h"

namespace pyhue::cuda {
namespace {

constexpr int64_t kWarpClasses = 512;           // rows up to this length take a warp
constexpr int64_t kSmallRowBytes = 32 * 1024;   // rows up to this a small block
constexpr int64_t kMostHeldBytes = 160 * 1024;  // of a row in shared memory; sm_80 has 163 KiB for a block
// Threads for long rows; soft targets need more than the 64 registers that 1,024 threads leave to each.
template <bool kSoft>
constexpr int kLargeTeam = kSoft ? 512 : 1024;

unsigned blocks_for(int64_t items, int64_t of_block) {
  return static_cast<unsigned>((items + of_block - 1) / of_block);
}

// Arrays in scratch memory, in bytes from its beginning.
struct Layout {
  int64_t total, partial, row_loss, row_state, labels, bytes;
};

int64_t row_slices(int64_t rows) { return std::clamp<int64_t>((rows + kSliceRows - 1) / kSliceRows, 1, kMostSlices); }

Layout layout_of(const HueCrossEntropy& loss) {
  const int64_t real_bytes = loss.type == kFloat64 ? 8 : 4;
  Layout layout{};
  int64_t end = 0;
  const auto place = [&](int64_t bytes) {
    const int64_t begin = end;
    end += (bytes + 255) / 256 * 256;
    return begin;
  };
  layout.total = place(8);
  layout.partial = place(8 * (kMostPartials + 1));
  layout.row_loss = place(loss.reduction == Reduction::kNone ? 0 : 8 * loss.rows);
  layout.row_state = place(loss.grad_labels ? kRowState * real_bytes * loss.rows : 0);
  layout.labels = place(loss.grad_labels ? 2 * real_bytes * loss.classes * row_slices(loss.rows) : 0);
  layout.bytes = end;
  return layout;
}

template <class Element, bool kSoft, bool kPerClass, int kTeam>
void launch_rows(const HueCrossEntropy& loss, const Work& work, cudaStream_t stream) {
  constexpr int kTeams = Team<kTeam>::kTeams;
  const int64_t pieces = loss.classes / Vector<Element>::kLength + 2;
  const int64_t room = std::min(kMostHeldBytes, shared_limit() - 2048) / kTeams / 16;  // 2048: static, reserved
  const int held = static_cast<int>(std::min(pieces, room));
  launch(hue_rows<Element, kSoft, kPerClass, kTeam>, dim3(blocks_for(loss.rows, kTeams)),
         dim3(Team<kTeam>::kBlockThreads), static_cast<size_t>(held) * kTeams * 16, stream, loss, work, held);
}

template <class Element, bool kSoft, bool kPerClass>
void launch_rows(const HueCrossEntropy& loss, const Work& work, cudaStream_t stream) {
  if (loss.classes <= kWarpClasses) return launch_rows<Element, kSoft, kPerClass, 32>(loss, work, stream);
  // The rare forms do without a kernel of their own for long rows.
  if constexpr (sizeof(Element) < 8 && !kPerClass) {
    const int64_t bytes = loss.classes * static_cast<int64_t>(sizeof(Element));
    if (bytes > kSmallRowBytes) return launch_rows<Element, kSoft, kPerClass, kLargeTeam<kSoft>>(loss, work, stream);
  }
  launch_rows<Element, kSoft, kPerClass, kThreads>(loss, work, stream);
}

template <class Real>
void label_gradient(const HueCrossEntropy& loss, const Work& work, void* partial, cudaStream_t stream) {
  const bool soft = loss.probabilities || loss.label_smoothing != 0;
  const auto kernel = loss.per_class ? soft ? label_gradients<Real, true, true> : label_gradients<Real, false, true>
                      : soft         ? label_gradients<Real, true, false>
                                     : label_gradients<Real, false, false>;
  const int64_t slices = row_slices(loss.rows);
  launch(kernel, dim3(blocks_for(loss.classes, kThreads), static_cast<unsigned>(slices)), dim3(kThreads), 0, stream,
         loss, work, static_cast<Real*>(partial));
  launch(add_slices<Real>, dim3(blocks_for(2 * loss.classes, kThreads)), dim3(kThreads), 0, stream,
         static_cast<const Real*>(partial), slices, 2 * loss.classes, static_cast<Real*>(loss.grad_labels));
}

// The sum of `count` values to *to, in an order that depends on the count only.
template <class Value>
void sum(const Value& value, int64_t count, double* partial, double* to, cudaStream_t stream) {
  const int64_t parts = std::clamp<int64_t>((count + kPartialRows - 1) / kPartialRows, 1, kMostPartials);
  launch(sum_values<Value>, dim3(static_cast<unsigned>(parts)), dim3(kThreads), 0, stream, value, count,
         parts == 1 ? to : partial);
  if (parts > 1) launch(sum_values<Given>, dim3(1), dim3(kThreads), 0, stream, Given{partial}, parts, to);
}

template <class Element>
void run(const HueCrossEntropy& loss, unsigned char* scratch, cudaStream_t stream) {
  using Real = RealOf<Element>;
  const Layout layout = layout_of(loss);
  double* total = reinterpret_cast<double*>(scratch + layout.total);
  double* partial = reinterpret_cast<double*>(scratch + layout.partial);
  double* row_loss = reinterpret_cast<double*>(scratch + layout.row_loss);
  const bool mean = loss.reduction == Reduction::kMean, soft = loss.probabilities || loss.label_smoothing != 0;
  if (mean) sum(TargetWeight<Real>{loss}, loss.rows, partial, total, stream);
  const Work work{mean ? total : nullptr, row_loss, loss.grad_labels ? scratch + layout.row_state : nullptr};
  if (loss.rows > 0) {
    const auto rows = loss.per_class ? soft ? launch_rows<Element, true, true> : launch_rows<Element, false, true>
                      : soft         ? launch_rows<Element, true, false>
                                     : launch_rows<Element, false, false>;
    rows(loss, work, stream);
  }
  if (loss.reduction != Reduction::kNone) {
    // The total is needed until the last row is done; the sum of the losses takes the place of the partial sums.
    sum(Given{row_loss}, loss.rows, partial + 1, partial, stream);
    launch(write_loss<Real>, dim3(1), dim3(32), 0, stream, static_cast<const double*>(partial), work.total,
           static_cast<Real*>(loss.loss));
  }
  if (loss.grad_labels) label_gradient<Real>(loss, work, scratch + layout.labels, stream);
}

}  // namespace

int64_t hue_cross_entropy_scratch_bytes(const HueCrossEntropy& loss) { return layout_of(loss).bytes; }

void hue_cross_entropy(const HueCrossEntropy& loss, void* scratch, cudaStream_t stream) {
  unsigned char* bytes = static_cast<unsigned char*>(scratch);
  switch (loss.type) {
    case kFloat32: return run<float>(loss, bytes, stream);
    case kFloat64: return run<double>(loss, bytes, stream);
    case kBfloat16: return run<Bfloat16>(loss, bytes, stream);
    default: return run<Half>(loss, bytes, stream);
  }
}

void scale_gradients(const ScaledArrays& arrays, const void* factor, cudaStream_t stream) {
  int64_t longest = 0;
  for (int i = 0; i < arrays.count; ++i) longest = std::max(longest, arrays.array[i].count);
  if (longest == 0) return;
  // Few blocks, since they mostly find a 1: enough for the memory bandwidth where they do not.
  const int64_t blocks =
      std::min<int64_t>((longest + 4 * kScaleThreads - 1) / (4 * kScaleThreads), 4 * multiprocessors());
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(arrays.count));
  if (arrays.array[0].type == kFloat64) {
    launch(scale_arrays<double>, grid, dim3(kScaleThreads), 0, stream, arrays, static_cast<const double*>(factor));
  } else {
    launch(scale_arrays<float>, grid, dim3(kScaleThreads), 0, stream, arrays, static_cast<const float*>(factor));
  }
}

}  // namespace pyhue::cuda
