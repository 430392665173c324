// The hue loss: cross-entropy of the logits plus cross-entropy of the softmax over negative distances to
// the hue labels, and their gradients, in one pass over the logits. hue_cross_entropy_kernel_types.h says
// what a row gives.
//
// Reductions are those of torch.nn.functional.cross_entropy: the mean divides by the sum of the targets'
// weights, or by the number of rows when the targets are probabilities; ignored rows count for nothing.
// Every result is the same for any number of workers: rows are independent, and sums over rows run in order.
#pragma once

#include <cstdint>

#include "core/executor.h"
#include "core/hue_cross_entropy_kernel_types.h"

namespace pyhue {

enum class Reduction { kNone, kMean, kSum };

// Bits: what an operator gives after the loss, in this order. The first: of input and of hue.
enum Outputs : int64_t { kGradients = 1, kLabelGradient = 2, kTargetGradient = 4, kLse = 8, kCorrect = 16 };

struct HueCrossEntropy {
  ElementType type;
  int64_t rows;
  int64_t classes;            // at least 1
  const void* input;          // (rows, classes) of the element type
  const void* hue;            // (rows, 2) (real: float, or double when the input is double)
  bool per_class;             // hue is (rows, classes, 2), a point for every class
  const int64_t* target;      // (rows), or null
  const void* probabilities;  // (rows, classes) (real), or null: one of the two is given
  const void* labels;         // (classes, 2) (real)
  const void* weight;         // (classes) (real), or null
  const void* row_weight;     // (rows) (real), or null for ones: multiplies each row's gradients
  double hue_weight;
  double hue_scale;  // at least 0
  int64_t ignore_index;
  Reduction reduction;
  double label_smoothing;   // 0 .. 1
  double lse_square_scale;  // 0: none
  double softcap;           // above 0, or 0: none

  void* loss;                          // (rows) (real) without reduction, else one
  void* grad_input;                    // (rows, classes) of the element type, or null: no gradients. May be `input`.
  void* grad_hue;                      // as hue (real), or null exactly when grad_input is
  void* grad_labels;                   // (classes, 2) (real), or null: not wanted
  void* grad_probabilities = nullptr;  // as probabilities, or null: not wanted; only together with grad_input
  void* lse = nullptr;                 // (rows) (real), or null: not wanted
  bool* correct = nullptr;             // (rows), or null: not wanted; where targets are classes
};

// Throws std::out_of_range when a target is neither a class nor ignore_index; nothing is written then.
void hue_cross_entropy(const HueCrossEntropy& loss, const Executor& executor);

}  // namespace pyhue
