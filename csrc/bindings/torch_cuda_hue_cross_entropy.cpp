// torch.ops.pyhue.hue_cross_entropy and its in-place form on the GPU.
#include "bindings/torch_cuda.h"
#include "bindings/torch_hue_cross_entropy.h"
#include "cuda/hue_cross_entropy.h"

namespace pyhue::cuda {
namespace {

struct Gpu {
  static void run(const HueCrossEntropy& loss, const Tensor& input) {
    const OnDevice device(input);
    const Tensor scratch = empty(input, {hue_cross_entropy_scratch_bytes(loss)}, ScalarType::Byte);
    hue_cross_entropy(loss, scratch.mutable_data_ptr(), device.stream());
  }
};

}  // namespace
}  // namespace pyhue::cuda

#if defined(PYHUE_EMULATED)
STABLE_TORCH_LIBRARY_FRAGMENT(PYHUE_OPS, m) {
  m.def(pyhue::kHueCrossEntropySchema);
  m.def(pyhue::kHueCrossEntropyInPlaceSchema);
}
#endif

STABLE_TORCH_LIBRARY_IMPL(PYHUE_OPS, PYHUE_KEY, m) {
  m.impl("hue_cross_entropy", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::cuda::Gpu>::apart));
  m.impl("hue_cross_entropy_", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::cuda::Gpu>::in_place));
}
