#include "bindings/torch_executor.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

namespace pyhue {

Executor torch_executor() {
  const auto run = [](void*, int workers, void (*body)(void* argument, int worker), void* argument) {
    torch::stable::parallel_for(0, workers, 1, [=](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) body(argument, static_cast<int>(worker));
    });
  };
  return {static_cast<int>(torch::stable::get_num_threads()), nullptr, run, nullptr};
}

}  // namespace pyhue
