// The hue loss and its gradients on the GPU: what csrc/core/hue_cross_entropy.h computes, from device memory.
//
// A warp or a block takes a row: it reads the logits once, keeps as many as fit in shared memory and the rest of them
// in the second-level cache, sums the softmax online, and writes each gradient once. Distances to the hue labels stay
// in registers; their softmax has blocks of its own where targets are classes and hue is a point for each row
// (hue_cross_entropy_hard.h), and is summed together with that of the logits in the other forms (_kernels.h).
//
// There are no atomics: rows are independent and sums over rows run in a fixed order, so that results are the same for
// every run. Nothing waits for the device: a target that is neither a class nor ignore_index cannot be an error here;
// the loss and the gradients of its row are NaN.
//
// Cost: 2 x rows x classes elements of memory traffic; for each logit 2 exponentials and a root, and another
// exponential where hue_scale is not small.
#pragma once

#include <cstdint>

#include "core/hue_cross_entropy.h"
#include "cuda/stream.h"

namespace pyhue::cuda {

int64_t hue_cross_entropy_scratch_bytes(const HueCrossEntropy& loss);

void hue_cross_entropy(const HueCrossEntropy& loss, void* scratch, cudaStream_t stream);

struct ScaledArray {
  void* values;
  int64_t count;
  ElementType type;
};
constexpr int kMostScaled = 8;
struct ScaledArrays {
  ScaledArray array[kMostScaled];
  int count;
};

// Multiplies the arrays, all of float64 or none, by *factor, a double or a float in device memory, each product rounded
// once. Where it is 1, which only the device knows, it costs one launch and no pass over memory.
void scale_gradients(const ScaledArrays& arrays, const void* factor, cudaStream_t stream);

}  // namespace pyhue::cuda
