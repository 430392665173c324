// torch.ops.pyhue.density_distances and density_backward, and what computes them on the CPU.
#include "bindings/torch_density.h"

#include "bindings/torch_executor.h"

namespace pyhue {
namespace {

struct Cpu {
  static void distances(const FoundNeighbors& found, const Tensor& activations, double* to) {
    density_distances(found, static_cast<const double*>(activations.const_data_ptr()), to, torch_executor());
  }
  template <class Value>
  static void backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments, const Tensor&) {
    density_backward(found, arguments, torch_executor());
  }
};

}  // namespace
}  // namespace pyhue

STABLE_TORCH_LIBRARY_FRAGMENT(pyhue, m) {
  m.def(pyhue::kDensityDistancesSchema);
  m.def(pyhue::kDensityBackwardSchema);
}

STABLE_TORCH_LIBRARY_IMPL(pyhue, CPU, m) {
  m.impl("density_distances", TORCH_BOX(&pyhue::DensityOperators<pyhue::Cpu>::distances));
  m.impl("density_backward", TORCH_BOX(&pyhue::DensityOperators<pyhue::Cpu>::backward));
}
