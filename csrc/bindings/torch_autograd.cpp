// torch.ops.pyhue.differentiable_hue_cross_entropy: the loss with its autograd in C++, for few rows. Against torch's
// own C++, which its stable ABI does not have yet, so this library serves the one torch that it was built with; without
// it the function is one of Python. Tensors come checked and contiguous from there.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "core/hue_cross_entropy.h"

namespace pyhue {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr size_t kArguments = 12;

struct HueCrossEntropyFunction : torch::autograd::Function<HueCrossEntropyFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& hue, const Tensor& target,
                        const Tensor& labels, const std::optional<Tensor>& weight, double hue_weight, double hue_scale,
                        int64_t ignore_index, int64_t reduction, double label_smoothing, double lse_square_scale,
                        double softcap) {
    static const c10::OperatorHandle kernel =
        c10::Dispatcher::singleton().findSchemaOrThrow("pyhue::hue_cross_entropy", "");
    const at::AutoDispatchBelowADInplaceOrView below;
    torch::jit::Stack stack{
        input,     hue,          target,    labels,          weight,           c10::IValue(), hue_weight,
        hue_scale, ignore_index, reduction, label_smoothing, lse_square_scale, softcap,       int64_t{kGradients}};
    kernel.callBoxed(&stack);
    const std::vector<Tensor> found = stack[0].toTensorVector();
    context->save_for_backward({found[1], found[2]});
    return found[0];
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_loss) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "there is no double backward: gradients of pyhue.nn cannot be differentiated");
    variable_list gradients(kArguments);
    const variable_list saved = context->get_saved_variables();
    for (size_t i = 0; i < saved.size(); ++i) gradients[i] = saved[i].mul(grad_loss[0]);
    return gradients;
  }
};

Tensor differentiable(const Tensor& input, const Tensor& hue, const Tensor& target, const Tensor& labels,
                      const std::optional<Tensor>& weight, double hue_weight, double hue_scale, int64_t ignore_index,
                      int64_t reduction, double label_smoothing, double lse_square_scale, double softcap) {
  return HueCrossEntropyFunction::apply(input, hue, target, labels, weight, hue_weight, hue_scale, ignore_index,
                                        reduction, label_smoothing, lse_square_scale, softcap);
}

}  // namespace
}  // namespace pyhue

TORCH_LIBRARY_FRAGMENT(pyhue, m) {
  m.def(
      "differentiable_hue_cross_entropy(Tensor input, Tensor hue, Tensor target, Tensor labels, Tensor? weight, "
      "float hue_weight, float hue_scale, int ignore_index, int reduction, float label_smoothing, "
      "float lse_square_scale, float softcap) -> Tensor");
}

TORCH_LIBRARY_IMPL(pyhue, AutogradCPU, m) {
  m.impl("differentiable_hue_cross_entropy", TORCH_FN(pyhue::differentiable));
}
