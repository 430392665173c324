#include <algorithm>

#include "cuda/hue_cross_entropy.h"
#include "cuda/hue_cross_entropy_hard.h"
#include "cuda/hue_cross_entropy_scale.h"
#include "cuda/hue_cross_entropy_sums.h"

namespace pyhue::cuda {
namespace {

constexpr int64_t kWarpBytes = 8 * 1024;       // rows up to this length take a warp
constexpr int64_t kSmallRowBytes = 32 * 1024;  // rows up to this a small block
constexpr int kLargeTeam = 512;                // threads for longer ones, two blocks to a multiprocessor
constexpr int64_t kReservedBytes = 1024;       // of shared memory, for each block

// Whether the softmaxes of logits and of hue are computed together; the gradient of the labels has to know.
bool is_soft(const HueCrossEntropy& loss) {
  return loss.probabilities || loss.label_smoothing != 0 || loss.softcap != 0;
}

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
  layout.partial = place(8 * kMostPartials);
  layout.row_loss = place(2 * 8 * loss.rows);  // of each term
  layout.row_state = place(loss.grad_labels ? kRowState * real_bytes * loss.rows : 0);
  layout.labels = place(loss.grad_labels ? 2 * real_bytes * loss.classes * row_slices(loss.rows) : 0);
  layout.bytes = end;
  return layout;
}

// Keeps as much of each row in shared memory as lets `together` blocks run on a multiprocessor.
template <class Element, int kTeam, class Kernel>
void launch_teams(Kernel kernel, int64_t blocks, int together, const HueCrossEntropy& loss, const Work& work,
                  cudaStream_t stream) {
  const int64_t teams = Team<kTeam>::kTeams, of_block = (shared_limit() + kReservedBytes) / together - kReservedBytes;
  const int64_t room = (of_block - static_shared(kernel)) / teams / 16;  // vectors of a row
  const int held = static_cast<int>(std::min(loss.classes / Vector<Element>::kLength + 2, room));
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(Team<kTeam>::kBlockThreads),
         static_cast<size_t>(held * teams * 16), stream, loss, work, held);
}

template <class Element, bool kSoft, bool kPerClass, bool kCapped = false>
void launch_soft(const HueCrossEntropy& loss, const Work& work, cudaStream_t stream) {
  const int64_t bytes = loss.classes * static_cast<int64_t>(sizeof(Element));
  const auto launch_team = [&]<int kTeam>() {
    launch_teams<Element, kTeam>(hue_rows<Element, kSoft, kPerClass, kCapped, kTeam>,
                                 blocks_for(loss.rows, Team<kTeam>::kTeams), 1, loss, work, stream);
  };
  if (bytes <= kWarpBytes / 4) return launch_team.template operator()<32>();
  // The rarest forms do without a kernel of their own for long rows.
  if constexpr (sizeof(Element) < 8 && !kPerClass && !kCapped) {
    if (bytes > kSmallRowBytes) return launch_team.template operator()<kLargeTeam>();
  }
  launch_team.template operator()<kThreads>();
}

template <class Element>
void launch_hard(const HueCrossEntropy& loss, const Work& work, cudaStream_t stream) {
  const int64_t bytes = loss.classes * static_cast<int64_t>(sizeof(Element));
  const auto launch_team = [&]<int kTeam>() {
    const int64_t turns = blocks_for(loss.rows, kPoints * Team<kTeam>::kTeams);
    launch_teams<Element, kTeam>(hard_rows<Element, kTeam>, (kPoints + 1) * turns, kTeam == kLargeTeam ? 2 : 1, loss,
                                 work, stream);
  };
  if (bytes <= kWarpBytes) return launch_team.template operator()<32>();
  if constexpr (sizeof(Element) < 8) {
    if (bytes > kSmallRowBytes) return launch_team.template operator()<kLargeTeam>();
  }
  launch_team.template operator()<kThreads>();
}

template <class Real>
void label_gradient(const HueCrossEntropy& loss, const Work& work, void* partial, cudaStream_t stream) {
  const bool soft = is_soft(loss);
  const auto kernel = loss.per_class ? soft ? label_gradients<Real, true, true> : label_gradients<Real, false, true>
                      : soft         ? label_gradients<Real, true, false>
                                     : label_gradients<Real, false, false>;
  const int64_t slices = row_slices(loss.rows);
  launch(kernel, dim3(blocks_for(loss.classes, kThreads), static_cast<unsigned>(slices)), dim3(kThreads), 0, stream,
         loss, work, static_cast<Real*>(partial));
  launch(add_slices<Real>, dim3(blocks_for(2 * loss.classes, kThreads)), dim3(kThreads), 0, stream,
         static_cast<const Real*>(partial), slices, 2 * loss.classes, static_cast<Real*>(loss.grad_labels));
}

// The sum of `count` values to `to`, in an order that depends on the count only.
template <class Value, class To>
void sum(const Value& value, int64_t count, double* partial, const To& to, cudaStream_t stream) {
  const int64_t parts = std::clamp<int64_t>((count + kPartialRows - 1) / kPartialRows, 1, kMostPartials);
  if (parts == 1) return launch(sum_values<Value, To>, dim3(1), dim3(kSumThreads), 0, stream, value, count, to);
  launch(sum_values<Value, ToArray>, dim3(static_cast<unsigned>(parts)), dim3(kSumThreads), 0, stream, value, count,
         ToArray{partial});
  launch(sum_values<Given, To>, dim3(1), dim3(kSumThreads), 0, stream, Given{partial}, parts, to);
}

template <class Element>
void run(const HueCrossEntropy& loss, unsigned char* scratch, cudaStream_t stream) {
  using Real = RealOf<Element>;
  const Layout layout = layout_of(loss);
  double* total = reinterpret_cast<double*>(scratch + layout.total);
  double* partial = reinterpret_cast<double*>(scratch + layout.partial);
  double* row_loss = reinterpret_cast<double*>(scratch + layout.row_loss);
  const bool mean = loss.reduction == Reduction::kMean, soft = is_soft(loss), capped = loss.softcap != 0;
  if (mean) sum(TargetWeight<Real>{loss}, loss.rows, partial, ToArray{total}, stream);
  const Work work{mean ? total : nullptr, row_loss, loss.grad_labels ? scratch + layout.row_state : nullptr};
  const bool hard = !soft && !loss.per_class;
  if (loss.rows > 0) {
    const auto rows =
        hard     ? launch_hard<Element>
        : capped ? loss.per_class ? launch_soft<Element, true, true, true> : launch_soft<Element, true, false, true>
        : loss.per_class ? soft ? launch_soft<Element, true, true> : launch_soft<Element, false, true>
                         : launch_soft<Element, true, false>;
    rows(loss, work, stream);
  }
  if (loss.reduction != Reduction::kNone) {
    sum(Given{row_loss}, loss.rows * (hard ? 2 : 1), partial, ToLoss<Real>{work.total, static_cast<Real*>(loss.loss)},
        stream);
  } else if (hard && loss.rows > 0) {
    launch(add_terms<Real>, dim3(blocks_for(loss.rows, kThreads)), dim3(kThreads), 0, stream, row_loss, loss.rows,
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
