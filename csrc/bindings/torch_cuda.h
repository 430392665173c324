// The device and the stream that an operator's kernels run on. With PYHUE_EMULATED the operators take CPU tensors and
// the kernels run on the CPU, in a namespace of their own: for tests.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "bindings/torch_tensors.h"
#include "cuda/stream.h"

#if defined(PYHUE_EMULATED)
#define PYHUE_OPS pyhue_emulation
#define PYHUE_KEY CPU
#else
#define PYHUE_OPS pyhue
#define PYHUE_KEY CUDA
// Of libtorch_cuda; torch's header hides it where torch was built without CUDA.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#endif

namespace pyhue::cuda {

// Makes a tensor's device the current one for as long as it lives, and knows the current stream there.
class OnDevice {
 public:
#if defined(PYHUE_EMULATED)
  explicit OnDevice(const Tensor&) {}
#else
  explicit OnDevice(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
#endif
  cudaStream_t stream() const { return stream_; }

 private:
#if !defined(PYHUE_EMULATED)
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  cudaStream_t stream_ = nullptr;
};

}  // namespace pyhue::cuda
