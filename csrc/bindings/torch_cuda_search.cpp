// The operators of a memory on the GPU. Tensors come checked and contiguous from Python, all on one device.
#include <tuple>

#include "bindings/torch_cuda.h"
#include "cuda/density.h"
#include "cuda/rows.h"
#include "cuda/search.h"

namespace pyhue::cuda {
namespace {

template <class T>
const T* values(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* mutable_values(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// vectors (n, dim) float32 or bfloat16, center (dim,) float64 -> blocks, terms: see Memory.
std::tuple<Tensor, Tensor> torch_pack_vectors(Tensor vectors, Tensor center) {
  const OnDevice device(vectors);
  const int64_t n = vectors.size(0), dim = vectors.size(1), blocks = (n + kBlock - 1) / kBlock;
  const Tensor packed = empty(vectors, {blocks, dim, kBlock}, ScalarType::BFloat16);
  const Tensor terms = empty(vectors, {blocks, kPackedTerms, kBlock}, ScalarType::Float);
  const Memory memory{vectors.const_data_ptr(),
                      vectors.scalar_type() == ScalarType::BFloat16,
                      n,
                      static_cast<int>(dim),
                      nullptr,
                      nullptr,
                      values<double>(center)};
  pack(memory, mutable_values<uint16_t>(packed), mutable_values<float>(terms), device.stream());
  return {packed, terms};
}

// queries (count, dim) float32 -> distances (count, k) float32, indices (count, k) int64.
std::tuple<Tensor, Tensor> torch_search_vectors(Tensor vectors, Tensor blocks, Tensor terms, Tensor center,
                                                Tensor queries, int64_t k) {
  const OnDevice device(vectors);
  const int64_t count = queries.size(0);
  const int dim = static_cast<int>(vectors.size(1));
  const Memory memory{vectors.const_data_ptr(), vectors.scalar_type() == ScalarType::BFloat16,
                      vectors.size(0),          dim,
                      values<uint16_t>(blocks), values<float>(terms),
                      values<double>(center)};
  const Tensor distances = empty(vectors, {count, k}, ScalarType::Float);
  const Tensor indices = empty(vectors, {count, k}, ScalarType::Long);
  const Tensor scratch = empty(vectors, {search_scratch_bytes(count, k, dim)}, ScalarType::Byte);
  search(memory, values<float>(queries), count, k, mutable_values<float>(distances), mutable_values<int64_t>(indices),
         scratch.mutable_data_ptr(), device.stream());
  return {distances, indices};
}

// (count, dim) float32 or float64 -> float32, of unit length if asked.
Tensor torch_store_rows(Tensor rows, bool normalize) {
  const OnDevice device(rows);
  const int64_t count = rows.size(0);
  const int dim = static_cast<int>(rows.size(1));
  const Tensor out = empty(rows, {count, dim}, ScalarType::Float);
  if (rows.scalar_type() == ScalarType::Double) {
    store_rows(values<double>(rows), count, dim, normalize, mutable_values<float>(out), device.stream());
  } else {
    store_rows(values<float>(rows), count, dim, normalize, mutable_values<float>(out), device.stream());
  }
  return out;
}

// distances, labels (images, pixels, k), class_counts (classes,) -> (images, classes) float64.
Tensor torch_density(Tensor distances, Tensor labels, Tensor class_counts, double eps) {
  const OnDevice device(distances);
  const int64_t images = distances.size(0), pixels = distances.size(1), k = distances.size(2);
  const int64_t classes = class_counts.size(0);
  const Tensor exponents = empty(distances, {images, pixels, k}, ScalarType::Double);
  const Tensor out = empty(distances, {images, classes}, ScalarType::Double);
  density(values<float>(distances), values<int64_t>(labels), values<int64_t>(class_counts), images, pixels, k, classes,
          eps, mutable_values<double>(exponents), mutable_values<double>(out), device.stream());
  return out;
}

}  // namespace
}  // namespace pyhue::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(PYHUE_OPS, m) {
  m.def("pack_vectors(Tensor vectors, Tensor center) -> (Tensor, Tensor)");
  m.def(
      "search_vectors(Tensor vectors, Tensor blocks, Tensor terms, Tensor center, Tensor queries, int k) "
      "-> (Tensor, Tensor)");
  m.def("store_rows(Tensor rows, bool normalize) -> Tensor");
  m.def("density(Tensor distances, Tensor labels, Tensor class_counts, float eps) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(PYHUE_OPS, PYHUE_KEY, m) {
  m.impl("pack_vectors", TORCH_BOX(&pyhue::cuda::torch_pack_vectors));
  m.impl("search_vectors", TORCH_BOX(&pyhue::cuda::torch_search_vectors));
  m.impl("store_rows", TORCH_BOX(&pyhue::cuda::torch_store_rows));
  m.impl("density", TORCH_BOX(&pyhue::cuda::torch_density));
}
