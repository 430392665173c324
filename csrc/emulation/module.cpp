// pyhue._emulation: the CUDA kernels on the CPU, for tests. Arrays lie in memory of just their size, so that the
// address sanitizer sees every access beyond them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "cuda/search.h"
#include "cuda/search_plan.h"

namespace py = pybind11;

namespace pyhue {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

struct Packed {
  std::vector<uint16_t> blocks;
  std::vector<float> terms;
};

// Packs vectors and searches them, as pyhue::cuda::search does.
py::tuple search(const py::array& vectors, const Array<double>& center, const Array<float>& queries, int64_t k) {
  const int64_t n = vectors.shape(0), count = queries.shape(0);
  const int dim = static_cast<int>(vectors.shape(1));
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  Packed packed{std::vector<uint16_t>(static_cast<size_t>(blocks * dim * kBlock), 0x7fff),
                std::vector<float>(static_cast<size_t>(blocks * cuda::kPackedTerms * kBlock), -1e30f)};
  const cuda::Memory memory{vectors.data(), vectors.itemsize() == 2, n, dim, packed.blocks.data(), packed.terms.data(),
                            center.data()};
  cuda::pack(memory, packed.blocks.data(), packed.terms.data(), nullptr);
  std::vector<unsigned char> scratch(static_cast<size_t>(cuda::search_scratch_bytes(count, k, dim)), 0xff);
  Array<float> distances({count, k});
  Array<int64_t> indices({count, k});
  cuda::search(memory, queries.data(), count, k, distances.mutable_data(), indices.mutable_data(), scratch.data(),
               nullptr);
  return py::make_tuple(distances, indices);
}

// The ends of the chunks of a search.
std::vector<int64_t> chunk_ends(int64_t n, int64_t k) {
  std::vector<int64_t> ends;
  for (int64_t begin = 0; begin < n; begin = ends.back()) ends.push_back(cuda::chunk_end(begin, n, k));
  return ends;
}

}  // namespace

PYBIND11_MODULE(_emulation, m) {
  m.def("search", &search);
  m.def("chunk_ends", [](int64_t n, int64_t k) { return py::tuple(py::cast(chunk_ends(n, k))); });
  m.def("list_length", &cuda::list_length);
  m.def("search_scratch_bytes", &cuda::search_scratch_bytes);
}

}  // namespace pyhue
