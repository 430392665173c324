// torch.ops.pyhue: the kernels as torch custom ops on the stable ABI. Tensors come checked from Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <vector>

#include "core/isa.h"

namespace pyhue {
namespace {

// The level in use, after switching to `name` if it is not empty.
std::string torch_isa(std::string name) {
  if (!name.empty()) set_isa(name);
  return isa();
}

}  // namespace
}  // namespace pyhue

STABLE_TORCH_LIBRARY(pyhue, m) {
  pyhue::set_isa_from_environment();
  m.def("isa(str name) -> str");
}

STABLE_TORCH_LIBRARY_IMPL(pyhue, CompositeExplicitAutograd, m) { m.impl("isa", TORCH_BOX(&pyhue::torch_isa)); }
