// What the hue cross-entropy kernels of each level take; hue_cross_entropy.cpp drives them. Plain types,
// no standard library.
#pragma once

#include "core/element_types.h"

namespace pyhue {

// Input and its gradient are of the element type. Sums, and every array marked (real), are of its accumulator:
// float, or double for kFloat64.
//
// A row x of logits and a point p on the plane of hue give, with the target distribution q,
//
//   lse = log sum_c exp(x_c)             d_c = hue_scale ||labels_c - p||
//   loss = sum_c q_c (lse - x_c) + hue_weight sum_c q_c (log sum_k exp(-d_k) + d_c) + lse_square_scale w lse^2
//   q_c  = (1 - label_smoothing) weight_c t_c + label_smoothing / classes weight_c
//
// where t is one-hot at the row's target, or the row of probabilities, and w the weight of the target, 1 of
// probabilities. With a softcap, softcap tanh(x_c / softcap) takes the place of x_c.
struct HueCrossEntropyRows {
  int64_t classes;
  const void* input;          // (rows, classes) of the element type
  const void* hue;            // (rows, 2) (real), or with per_class (rows, classes, 2)
  bool per_class;             // d_c = hue_scale ||labels_c - p_c||
  const int64_t* target;      // (rows), checked, or ignore_index; null when there are probabilities
  const void* probabilities;  // (rows, classes) (real), or null
  const void* label_x;        // (classes, padded to a register) (real): first coordinate of each label
  const void* label_y;        // second coordinate
  const void* weight;         // (classes) (real), or null for ones
  int64_t ignore_index;
  double label_smoothing;
  double lse_square_scale;
  double softcap;  // 0: none
  double hue_weight;
  double hue_scale;
  double label_radius;     // at least the length of every label
  double row_scale;        // what the reduction multiplies the gradient of a row by
  const void* row_weight;  // (rows) (real): multiplies the gradients further; null for ones

  double* loss;              // (rows)
  void* grad_input;          // (rows, classes) of the element type; null: no gradients are wanted. May be `input`.
  void* grad_hue;            // as hue (real)
  void* grad_probabilities;  // (rows, classes) (real), or null: not wanted
  void* row_state;           // (rows, kRowState) (real): what the labels' gradient needs of a row; null: not wanted
  void* lse;                 // (rows) (real), 0 where the target is ignored; null: not wanted
  bool* correct;             // (rows): whether the target's logit is the first of the largest; null: not wanted
  bool stream;               // grad_input is too large for the caches: write past them
};

// shift: exp(-d_c + shift) cannot overflow. partition: dloss/dd_c times the scales is
// hard [c = target] + soft q_c - partition exp(shift - d_c).
enum RowState { kShift, kPartition, kHard, kRowState };

// Rows begin .. end-1. The row is read from memory once and its gradient written once: exp(x_c - max) is
// kept in `scratch`, hue distances and their softmax stay in registers (the gradient with respect to hue
// needs sums over classes only). With a softcap its logits are kept there, too.
//   scratch  of the worker, aligned to 64: room for Scratch of hue_cross_entropy_kernel.h
using HueCrossEntropyKernel = void (*)(const HueCrossEntropyRows&, int64_t begin, int64_t end, void* scratch);

// grad_labels (classes, 2) (real), for classes begin .. end-1, summed over all rows in order; needs the
// row_state that the kernel above left.
using HueLabelGradientKernel = void (*)(const HueCrossEntropyRows&, int64_t rows, int64_t begin, int64_t end,
                                        void* grad_labels);

// Logits that are scanned for their maximum before they are exponentiated: they stay in the first cache.
constexpr int64_t kSoftmaxBlock = 2048;

}  // namespace pyhue
