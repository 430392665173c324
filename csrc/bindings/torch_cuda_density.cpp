// torch.ops.pyhue.density, and the operators of its gradient on the GPU.
#include "bindings/torch_cuda.h"
#include "bindings/torch_density.h"
#include "cuda/density.h"

namespace pyhue::cuda {
namespace {

// distances, labels (images, pixels, k), class_counts (classes,) or (images, classes) -> (images, classes) float64.
Tensor torch_density(Tensor distances, Tensor labels, Tensor class_counts, double eps) {
  const OnDevice device(distances);
  const int64_t images = distances.size(0), pixels = distances.size(1), k = distances.size(2);
  const bool counts_of_images = class_counts.dim() == 2;
  const int64_t classes = class_counts.size(counts_of_images ? 1 : 0);
  const Tensor exponents = empty(distances, {images, pixels, k}, ScalarType::Double);
  const Tensor out = empty(distances, {images, classes}, ScalarType::Double);
  const auto compute = [&]<class Distance>(const Distance* values) {
    density(values, static_cast<const int64_t*>(labels.const_data_ptr()),
            static_cast<const int64_t*>(class_counts.const_data_ptr()), counts_of_images, images, pixels, k, classes,
            eps, static_cast<double*>(exponents.mutable_data_ptr()), static_cast<double*>(out.mutable_data_ptr()),
            device.stream());
  };
  if (distances.scalar_type() == ScalarType::Double) {
    compute(static_cast<const double*>(distances.const_data_ptr()));
  } else {
    compute(static_cast<const float*>(distances.const_data_ptr()));
  }
  return out;
}

struct Gpu {
  static Tensor empty_rows(const FoundNeighbors& found, const Tensor& like) {
    return empty(like, {found.images, found.pixels, found.k}, ScalarType::Long);
  }
  static const void** rows_of(const Tensor& rows) { return static_cast<const void**>(rows.mutable_data_ptr()); }

  static void distances(const FoundNeighbors& found, const Tensor& activations, double* to) {
    const OnDevice device(activations);
    const Tensor rows = empty_rows(found, activations);
    density_distances(found, static_cast<const double*>(activations.const_data_ptr()), rows_of(rows), to,
                      device.stream());
  }
  template <class Value>
  static void backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments,
                       const Tensor& activations) {
    const OnDevice device(activations);
    const Tensor rows = empty_rows(found, activations);
    const Tensor pulls = empty(activations, {found.images, found.pixels, found.k}, ScalarType::Double);
    density_backward(found, arguments, {rows_of(rows), static_cast<double*>(pulls.mutable_data_ptr())},
                     device.stream());
  }
};

}  // namespace
}  // namespace pyhue::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(PYHUE_OPS, m) {
  m.def("density(Tensor distances, Tensor labels, Tensor class_counts, float eps) -> Tensor");
#if defined(PYHUE_EMULATED)
  m.def(pyhue::kDensityDistancesSchema);
  m.def(pyhue::kDensityBackwardSchema);
#endif
}

STABLE_TORCH_LIBRARY_IMPL(PYHUE_OPS, PYHUE_KEY, m) {
  m.impl("density", TORCH_BOX(&pyhue::cuda::torch_density));
  m.impl("density_distances", TORCH_BOX(&pyhue::DensityOperators<pyhue::cuda::Gpu>::distances));
  m.impl("density_backward", TORCH_BOX(&pyhue::DensityOperators<pyhue::cuda::Gpu>::backward));
}
