// torch.ops.pyhue.hue_cross_entropy and its in-place form, and what computes them on the CPU.
#include "bindings/torch_hue_cross_entropy.h"

#include "bindings/torch_executor.h"

namespace pyhue {
namespace {

struct Cpu {
  static void run(const HueCrossEntropy& loss, const Tensor&) { hue_cross_entropy(loss, torch_executor()); }
};

}  // namespace
}  // namespace pyhue

STABLE_TORCH_LIBRARY_FRAGMENT(pyhue, m) {
  m.def(pyhue::kHueCrossEntropySchema);
  m.def(pyhue::kHueCrossEntropyInPlaceSchema);
}

STABLE_TORCH_LIBRARY_IMPL(pyhue, CPU, m) {
  m.impl("hue_cross_entropy", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::Cpu>::apart));
  m.impl("hue_cross_entropy_", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::Cpu>::in_place));
}
