// The operators hue_cross_entropy and hue_cross_entropy_, for whatever computes them. Tensors come checked and
// contiguous from Python, all on one device.
#pragma once

#include <stdexcept>
#include <tuple>
#include <vector>

#include "bindings/torch_tensors.h"
#include "core/hue_cross_entropy.h"

namespace pyhue {

constexpr const char* kHueCrossEntropySchema =
    "hue_cross_entropy(Tensor input, Tensor hue, Tensor target, Tensor labels, Tensor? weight, Tensor? row_weight, "
    "float hue_weight, float hue_scale, int ignore_index, int reduction, float label_smoothing, bool gradients, "
    "bool label_gradient) -> (Tensor, Tensor, Tensor, Tensor)";
constexpr const char* kHueCrossEntropyInPlaceSchema =
    "hue_cross_entropy_(Tensor(a!) input, Tensor hue, Tensor target, Tensor labels, Tensor? weight, "
    "Tensor? row_weight, float hue_weight, float hue_scale, int ignore_index, float label_smoothing) "
    "-> (Tensor, Tensor)";

inline ElementType element_type(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return kFloat32;
    case ScalarType::Double: return kFloat64;
    case ScalarType::BFloat16: return kBfloat16;
    case ScalarType::Half: return kFloat16;
    default: throw std::invalid_argument("hue_cross_entropy: input is not of a floating-point type");
  }
}

inline ScalarType real_type(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

// `Device::run(loss, input)` computes a loss whose arrays lie where the tensor `input` does.
template <class Device>
struct HueCrossEntropyOperators {
  struct Arguments {
    const Tensor &input, &hue, &target, &labels;
    const std::optional<Tensor>&weight, &row_weight;
    double hue_weight, hue_scale;
    int64_t ignore_index;
    Reduction reduction;
    double label_smoothing;
  };

  // The loss; gradients go to the memory given, null where they are not wanted.
  static Tensor loss_of(const Arguments& arguments, void* grad_input, void* grad_hue, void* grad_labels) {
    const int64_t rows = arguments.input.size(0), classes = arguments.input.size(1);
    const ScalarType type = arguments.input.scalar_type();
    const bool probabilities = arguments.target.dim() == 2;
    const bool scalar = arguments.reduction != Reduction::kNone;
    const Tensor loss = empty(arguments.input, scalar ? std::vector<int64_t>{} : std::vector{rows}, real_type(type));
    Device::run(
        {
            .type = element_type(type),
            .rows = rows,
            .classes = classes,
            .input = arguments.input.const_data_ptr(),
            .hue = arguments.hue.const_data_ptr(),
            .per_class = arguments.hue.dim() == 3,
            .target = probabilities ? nullptr : static_cast<const int64_t*>(arguments.target.const_data_ptr()),
            .probabilities = probabilities ? arguments.target.const_data_ptr() : nullptr,
            .labels = arguments.labels.const_data_ptr(),
            .weight = data(arguments.weight),
            .row_weight = data(arguments.row_weight),
            .hue_weight = arguments.hue_weight,
            .hue_scale = arguments.hue_scale,
            .ignore_index = arguments.ignore_index,
            .reduction = arguments.reduction,
            .label_smoothing = arguments.label_smoothing,
            .loss = loss.mutable_data_ptr(),
            .grad_input = grad_input,
            .grad_hue = grad_hue,
            .grad_labels = grad_labels,
        },
        arguments.input);
    return loss;
  }

  static Tensor empty_as_hue(const Tensor& hue) {
    std::vector<int64_t> sizes;
    for (int64_t i = 0; i < hue.dim(); ++i) sizes.push_back(hue.size(i));
    return empty(hue, sizes, hue.scalar_type());
  }

  // loss, and the gradients of input, hue and labels; those not wanted are empty.
  static std::tuple<Tensor, Tensor, Tensor, Tensor> apart(Tensor input, Tensor hue, Tensor target, Tensor labels,
                                                          std::optional<Tensor> weight,
                                                          std::optional<Tensor> row_weight, double hue_weight,
                                                          double hue_scale, int64_t ignore_index, int64_t reduction,
                                                          double label_smoothing, bool gradients, bool label_gradient) {
    const int64_t rows = input.size(0), classes = input.size(1);
    const ScalarType type = input.scalar_type();
    const bool labels_too = gradients && label_gradient;
    const std::vector<int64_t> none{0};
    const Tensor grad_input = empty(input, gradients ? std::vector{rows, classes} : none, type);
    const Tensor grad_hue = gradients ? empty_as_hue(hue) : empty(input, none, real_type(type));
    const Tensor grad_labels = empty(input, labels_too ? std::vector<int64_t>{classes, 2} : none, real_type(type));
    const Tensor loss =
        loss_of({input, hue, target, labels, weight, row_weight, hue_weight, hue_scale, ignore_index,
                 static_cast<Reduction>(reduction), label_smoothing},
                gradients ? grad_input.mutable_data_ptr() : nullptr, gradients ? grad_hue.mutable_data_ptr() : nullptr,
                labels_too ? grad_labels.mutable_data_ptr() : nullptr);
    return {loss, grad_input, grad_hue, grad_labels};
  }

  // The sum over rows, and the gradient of hue; the gradient of input takes its place.
  static std::tuple<Tensor, Tensor> in_place(Tensor input, Tensor hue, Tensor target, Tensor labels,
                                             std::optional<Tensor> weight, std::optional<Tensor> row_weight,
                                             double hue_weight, double hue_scale, int64_t ignore_index,
                                             double label_smoothing) {
    const Tensor grad_hue = empty_as_hue(hue);
    const Tensor loss = loss_of({input, hue, target, labels, weight, row_weight, hue_weight, hue_scale, ignore_index,
                                 Reduction::kSum, label_smoothing},
                                input.mutable_data_ptr(), grad_hue.mutable_data_ptr(), nullptr);
    return {loss, grad_hue};
  }
};

}  // namespace pyhue
