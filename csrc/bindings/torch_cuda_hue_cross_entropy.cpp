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

// Gradients, all of float64 or none, times a scalar of their sums' type, in place.
void torch_scale_gradients(std::vector<Tensor> gradients, const Tensor& factor) {
  ScaledArrays arrays{};
  if (gradients.empty() || gradients.size() > kMostScaled) {
    throw std::invalid_argument("scale_gradients_: expected 1 to 8 gradients");
  }
  for (const Tensor& gradient : gradients) {
    const ElementType type = element_type(gradient.scalar_type());
    if (real_type(gradient.scalar_type()) != factor.scalar_type()) {
      throw std::invalid_argument("scale_gradients_: factor is not of the type of the gradients' sums");
    }
    arrays.array[arrays.count++] = {gradient.mutable_data_ptr(), gradient.numel(), type};
  }
  const OnDevice device(factor);
  scale_gradients(arrays, factor.const_data_ptr(), device.stream());
}

}  // namespace
}  // namespace pyhue::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(PYHUE_OPS, m) {
#if defined(PYHUE_EMULATED)
  m.def(pyhue::kHueCrossEntropySchema);
  m.def(pyhue::kHueCrossEntropyInPlaceSchema);
#endif
  m.def("scale_gradients_(Tensor(a!)[] gradients, Tensor factor) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(PYHUE_OPS, PYHUE_KEY, m) {
  m.impl("hue_cross_entropy", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::cuda::Gpu>::apart));
  m.impl("hue_cross_entropy_", TORCH_BOX(&pyhue::HueCrossEntropyOperators<pyhue::cuda::Gpu>::in_place));
  m.impl("scale_gradients_", TORCH_BOX(&pyhue::cuda::torch_scale_gradients));
}
