// torch.ops.pyhue.hue_cross_entropy. Tensors come checked and contiguous from Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "bindings/torch_executor.h"
#include "core/hue_cross_entropy.h"

namespace pyhue {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor empty(const std::vector<int64_t>& sizes, ScalarType type) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)), aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

ElementType element_type(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return kFloat32;
    case ScalarType::Double: return kFloat64;
    case ScalarType::BFloat16: return kBfloat16;
    case ScalarType::Half: return kFloat16;
    default: throw std::invalid_argument("hue_cross_entropy: input is not of a floating-point type");
  }
}

const void* data(const std::optional<Tensor>& tensor) { return tensor ? tensor->const_data_ptr() : nullptr; }

// loss, and the gradients of input, hue and labels; those not wanted are empty.
std::tuple<Tensor, Tensor, Tensor, Tensor> torch_hue_cross_entropy(Tensor input, Tensor hue, Tensor target,
                                                                   Tensor labels, std::optional<Tensor> weight,
                                                                   std::optional<Tensor> row_weight, double hue_weight,
                                                                   double hue_scale, int64_t ignore_index,
                                                                   int64_t reduction, double label_smoothing,
                                                                   bool gradients, bool label_gradient) {
  const int64_t rows = input.size(0), classes = input.size(1);
  const ScalarType type = input.scalar_type();
  const ScalarType real = type == ScalarType::Double ? type : ScalarType::Float;
  const bool probabilities = target.dim() == 2;
  const auto how = static_cast<Reduction>(reduction);
  const std::vector<int64_t> none{0};
  const Tensor loss = empty(how == Reduction::kNone ? std::vector{rows} : std::vector<int64_t>{}, real);
  const Tensor grad_input = empty(gradients ? std::vector{rows, classes} : none, type);
  const Tensor grad_hue = empty(gradients ? std::vector<int64_t>{rows, 2} : none, real);
  const Tensor grad_labels = empty(gradients && label_gradient ? std::vector<int64_t>{classes, 2} : none, real);
  hue_cross_entropy(
      {
          .type = element_type(type),
          .rows = rows,
          .classes = classes,
          .input = input.const_data_ptr(),
          .hue = hue.const_data_ptr(),
          .target = probabilities ? nullptr : static_cast<const int64_t*>(target.const_data_ptr()),
          .probabilities = probabilities ? target.const_data_ptr() : nullptr,
          .labels = labels.const_data_ptr(),
          .weight = data(weight),
          .row_weight = data(row_weight),
          .hue_weight = hue_weight,
          .hue_scale = hue_scale,
          .ignore_index = ignore_index,
          .reduction = how,
          .label_smoothing = label_smoothing,
          .loss = loss.mutable_data_ptr(),
          .grad_input = gradients ? grad_input.mutable_data_ptr() : nullptr,
          .grad_hue = gradients ? grad_hue.mutable_data_ptr() : nullptr,
          .grad_labels = gradients && label_gradient ? grad_labels.mutable_data_ptr() : nullptr,
      },
      torch_executor());
  return {loss, grad_input, grad_hue, grad_labels};
}

}  // namespace
}  // namespace pyhue

STABLE_TORCH_LIBRARY_FRAGMENT(pyhue, m) {
  m.def(
      "hue_cross_entropy(Tensor input, Tensor hue, Tensor target, Tensor labels, Tensor? weight, Tensor? row_weight, "
      "float hue_weight, "
      "float hue_scale, int ignore_index, int reduction, float label_smoothing, bool gradients, bool label_gradient) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(pyhue, CPU, m) { m.impl("hue_cross_entropy", TORCH_BOX(&pyhue::torch_hue_cross_entropy)); }
