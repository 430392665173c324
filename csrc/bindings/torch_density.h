// The operators of the density's gradient, for whatever computes them. Tensors come checked and contiguous from
// Python, all on one device; only the vectors of a memory on a GPU may lie in page-locked memory of the host.
#pragma once

#include <vector>

#include "bindings/torch_tensors.h"
#include "core/density.h"

namespace pyhue {

constexpr const char* kDensityDistancesSchema =
    "density_distances(Tensor activations, Tensor[] vectors, Tensor indices, bool normalize) -> Tensor";
constexpr const char* kDensityBackwardSchema =
    "density_backward(Tensor gradient, Tensor log_likelihood, Tensor activations, Tensor distances, Tensor indices, "
    "Tensor labels, Tensor class_counts, Tensor[] vectors, bool normalize, float eps) -> Tensor";

// `Device::distances` and `Device::backward` compute on arrays that lie where the tensor `activations` does.
template <class Device>
struct DensityOperators {
  // activations (images, pixels, dim) float64, vectors (n, dim) each, indices (images, pixels, k) -> the shape of
  // indices, float64.
  static Tensor distances(Tensor activations, std::vector<Tensor> vectors, Tensor indices, bool normalize) {
    const Tensor out = empty(activations, {indices.size(0), indices.size(1), indices.size(2)}, ScalarType::Double);
    const std::vector<StoredPiece> pieces = pieces_of(vectors);
    Device::distances(found_of(activations, vectors, pieces, indices, normalize), activations,
                      static_cast<double*>(out.mutable_data_ptr()));
    return out;
  }

  // gradient, log_likelihood (images, classes) float64; distances of the type of the activations, float32 or float64
  // -> the gradient of the activations.
  static Tensor backward(Tensor gradient, Tensor log_likelihood, Tensor activations, Tensor distances, Tensor indices,
                         Tensor labels, Tensor class_counts, std::vector<Tensor> vectors, bool normalize, double eps) {
    const Tensor to =
        empty(activations, {activations.size(0), activations.size(1), activations.size(2)}, activations.scalar_type());
    const std::vector<StoredPiece> pieces = pieces_of(vectors);
    const auto compute = [&]<class Value>(Value* result) {
      const DensityGradient<Value> arguments{
          .classes = class_counts.size(0),
          .eps = eps,
          .activations = static_cast<const Value*>(activations.const_data_ptr()),
          .distances = static_cast<const Value*>(distances.const_data_ptr()),
          .labels = static_cast<const int64_t*>(labels.const_data_ptr()),
          .class_counts = static_cast<const int64_t*>(class_counts.const_data_ptr()),
          .log_likelihood = static_cast<const double*>(log_likelihood.const_data_ptr()),
          .gradient = static_cast<const double*>(gradient.const_data_ptr()),
          .to = result,
      };
      Device::backward(found_of(activations, vectors, pieces, indices, normalize), arguments, activations);
    };
    if (activations.scalar_type() == ScalarType::Double) {
      compute(static_cast<double*>(to.mutable_data_ptr()));
    } else {
      compute(static_cast<float*>(to.mutable_data_ptr()));
    }
    return to;
  }

 private:
  static std::vector<StoredPiece> pieces_of(const std::vector<Tensor>& vectors) {
    std::vector<StoredPiece> pieces;
    for (const Tensor& piece : vectors) pieces.push_back({piece.const_data_ptr(), piece.size(0)});
    return pieces;
  }

  static FoundNeighbors found_of(const Tensor& activations, const std::vector<Tensor>& vectors,
                                 const std::vector<StoredPiece>& pieces, const Tensor& indices, bool normalize) {
    return {.images = indices.size(0),
            .pixels = indices.size(1),
            .k = indices.size(2),
            .dim = static_cast<int>(activations.size(2)),
            .normalize = normalize,
            .indices = static_cast<const int64_t*>(indices.const_data_ptr()),
            .pieces = pieces.data(),
            .piece_count = static_cast<int>(pieces.size()),
            .bfloat16 = !vectors.empty() && vectors[0].scalar_type() == ScalarType::BFloat16};
  }
};

}  // namespace pyhue
