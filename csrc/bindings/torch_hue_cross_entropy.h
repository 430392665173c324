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
    "float hue_weight, float hue_scale, int ignore_index, int reduction, float label_smoothing, "
    "float lse_square_scale, float softcap, int outputs) -> Tensor[]";
constexpr const char* kHueCrossEntropyInPlaceSchema =
    "hue_cross_entropy_(Tensor(a!) input, Tensor hue, Tensor target, Tensor labels, Tensor? weight, "
    "Tensor? row_weight, float hue_weight, float hue_scale, int ignore_index, float label_smoothing, "
    "float lse_square_scale, float softcap, int outputs) -> (Tensor, Tensor, Tensor, Tensor)";

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
    double label_smoothing, lse_square_scale, softcap;
  };

  // Where results go: null where they are not wanted.
  struct Room {
    void *input = nullptr, *hue = nullptr, *labels = nullptr, *target = nullptr;  // gradients
    void *lse = nullptr, *correct = nullptr;
  };

  static Tensor empty_loss(const Tensor& input, Reduction reduction) {
    return empty(input, reduction == Reduction::kNone ? std::vector{input.size(0)} : std::vector<int64_t>{},
                 real_type(input.scalar_type()));
  }

  static void compute(const Arguments& arguments, const Tensor& loss, const Room& room) {
    const bool probabilities = arguments.target.dim() == 2;
    Device::run(
        {
            .type = element_type(arguments.input.scalar_type()),
            .rows = arguments.input.size(0),
            .classes = arguments.input.size(1),
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
            .lse_square_scale = arguments.lse_square_scale,
            .softcap = arguments.softcap,
            .loss = loss.mutable_data_ptr(),
            .grad_input = room.input,
            .grad_hue = room.hue,
            .grad_labels = room.labels,
            .grad_probabilities = room.target,
            .lse = room.lse,
            .correct = static_cast<bool*>(room.correct),
        },
        arguments.input);
  }

  static Tensor empty_as(const Tensor& tensor) {
    std::vector<int64_t> sizes;
    for (int64_t i = 0; i < tensor.dim(); ++i) sizes.push_back(tensor.size(i));
    return empty(tensor, sizes, tensor.scalar_type());
  }

  static Tensor empty_lse(const Tensor& input, int64_t rows) {
    return empty(input, {rows}, real_type(input.scalar_type()));
  }
  static Tensor empty_correct(const Tensor& input, int64_t rows) { return empty(input, {rows}, ScalarType::Bool); }

  // The loss, and what `outputs` asks for.
  static std::vector<Tensor> apart(Tensor input, Tensor hue, Tensor target, Tensor labels, std::optional<Tensor> weight,
                                   std::optional<Tensor> row_weight, double hue_weight, double hue_scale,
                                   int64_t ignore_index, int64_t reduction, double label_smoothing,
                                   double lse_square_scale, double softcap, int64_t outputs) {
    const Reduction reduced = static_cast<Reduction>(reduction);
    std::vector<Tensor> found{empty_loss(input, reduced)};
    const auto room_as = [&](const Tensor& tensor, Outputs kind) -> void* {
      return outputs & kind ? found.emplace_back(empty_as(tensor)).mutable_data_ptr() : nullptr;
    };
    Room room{.input = room_as(input, kGradients),
              .hue = room_as(hue, kGradients),
              .labels = room_as(labels, kLabelGradient),
              .target = room_as(target, kTargetGradient)};
    const int64_t rows = input.size(0);
    if (outputs & kLse) room.lse = found.emplace_back(empty_lse(input, rows)).mutable_data_ptr();
    if (outputs & kCorrect) room.correct = found.emplace_back(empty_correct(input, rows)).mutable_data_ptr();
    compute({input, hue, target, labels, weight, row_weight, hue_weight, hue_scale, ignore_index, reduced,
             label_smoothing, lse_square_scale, softcap},
            found[0], room);
    return found;
  }

  // The sum over rows, the gradient of hue, and of rows their log-sum-exp and correctness, of none where `outputs` does
  // not ask for them; the gradient of input takes its place. (torch wants a fixed number from what writes in place.)
  static std::tuple<Tensor, Tensor, Tensor, Tensor> in_place(Tensor input, Tensor hue, Tensor target, Tensor labels,
                                                             std::optional<Tensor> weight,
                                                             std::optional<Tensor> row_weight, double hue_weight,
                                                             double hue_scale, int64_t ignore_index,
                                                             double label_smoothing, double lse_square_scale,
                                                             double softcap, int64_t outputs) {
    const int64_t rows = input.size(0);
    const Tensor loss = empty_loss(input, Reduction::kSum), grad_hue = empty_as(hue);
    const Tensor lse = empty_lse(input, outputs & kLse ? rows : 0);
    const Tensor correct = empty_correct(input, outputs & kCorrect ? rows : 0);
    Room room{.input = input.mutable_data_ptr(), .hue = grad_hue.mutable_data_ptr()};
    if (outputs & kLse) room.lse = lse.mutable_data_ptr();
    if (outputs & kCorrect) room.correct = correct.mutable_data_ptr();
    compute({input, hue, target, labels, weight, row_weight, hue_weight, hue_scale, ignore_index, Reduction::kSum,
             label_smoothing, lse_square_scale, softcap},
            loss, room);
    return {loss, grad_hue, lse, correct};
  }
};

}  // namespace pyhue
