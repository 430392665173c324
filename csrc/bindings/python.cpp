// pyhue._core: the kernels on NumPy arrays. Arrays come checked from Python; here the GIL is released and
// the kernel called. The module is a map: one line registers one function.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>

#include "bindings/thread_pool.h"
#include "core/density.h"
#include "core/isa.h"
#include "core/pack.h"
#include "core/search.h"
#include "core/search_kernel_types.h"

namespace py = pybind11;

namespace pyhue {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Lets Ctrl-C through: the calling thread asks Python for signals ten times a second.
class Interruption {
 public:
  Executor executor() {
    return pool_executor(this, [](void* self) { return static_cast<Interruption*>(self)->check(); });
  }

  // After the GIL is back: raises KeyboardInterrupt, or whatever the signal handler raised.
  void raise_if(bool interrupted) const {
    if (interrupted) throw py::error_already_set();
  }

 private:
  bool check() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(100);
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
};

Coordinates coordinates(const Array<double>& prefix, const Array<double>& squared_norms, double orthogonality_error) {
  return {prefix.data(), squared_norms.data(), prefix.shape(0), static_cast<int>(prefix.shape(1)), orthogonality_error};
}

void pack_memory_array(const Array<double>& prefix, const Array<double>& squared_norms, double orthogonality_error,
                       int64_t first, Array<uint16_t>& blocks, Array<float>& bounds) {
  const Coordinates c = coordinates(prefix, squared_norms, orthogonality_error);
  uint16_t* blocks_data = blocks.mutable_data();
  float* bounds_data = bounds.mutable_data();
  py::gil_scoped_release release;
  pack_memory(c, first, blocks_data, bounds_data, pool_executor(nullptr, nullptr));
}

py::tuple search_arrays(const Array<float>& vectors, const Array<uint16_t>& blocks, const Array<float>& bounds,
                        int prefix, const Array<float>& queries, const Array<double>& query_prefix,
                        const Array<double>& query_squared_norms, double orthogonality_error, int64_t k) {
  const int64_t n = queries.shape(0);
  Array<float> distances({n, k});
  Array<int64_t> indices({n, k});
  const SearchMemory memory{
      vectors.data(), blocks.data(), bounds.data(), vectors.shape(0), static_cast<int>(vectors.shape(1)), prefix};
  const Coordinates c = coordinates(query_prefix, query_squared_norms, orthogonality_error);
  const float* query_data = queries.data();
  float* distance_data = distances.mutable_data();
  int64_t* index_data = indices.mutable_data();
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    std::vector<uint16_t> prefixes(static_cast<size_t>(n * padded(prefix)));
    std::vector<PackedQuery> packed(static_cast<size_t>(n));
    pack_queries(c, prefixes.data(), packed.data());
    finished = search(memory, {query_data, prefixes.data(), packed.data(), n}, k, distance_data, index_data,
                      interruption.executor());
  }
  interruption.raise_if(!finished);
  return py::make_tuple(distances, indices);
}

Array<double> density_arrays(const Array<float>& distances, const Array<int64_t>& labels,
                             const Array<int64_t>& class_counts, double eps) {
  const int64_t images = distances.shape(0), classes = class_counts.shape(0);
  Array<double> out({images, classes});
  const int64_t pixels = distances.shape(1), k = distances.shape(2);
  const float* distance_data = distances.data();
  const int64_t* label_data = labels.data();
  const int64_t* count_data = class_counts.data();
  double* out_data = out.mutable_data();
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = density(distance_data, label_data, count_data, images, pixels, k, classes, eps, out_data,
                       interruption.executor());
  }
  interruption.raise_if(!finished);
  return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  set_isa_from_environment();
  m.attr("block") = kBlock;
  m.def("isa", &isa);
  m.def("available_isas", &available_isas);
  m.def("set_isa", &set_isa);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("padded", &padded);
  m.def("pack_memory", &pack_memory_array);
  m.def("search", &search_arrays);
  m.def("density", &density_arrays);
}

}  // namespace pyhue
