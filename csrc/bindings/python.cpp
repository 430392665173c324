// pyhue._core: the kernels on NumPy arrays. Arrays come checked from Python; here the GIL is released and
// the kernel called. The module is a map: one line registers one function.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <optional>

#include "bindings/thread_pool.h"
#include "core/density.h"
#include "core/isa.h"
#include "core/pack.h"
#include "core/project.h"
#include "core/rows.h"
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

// Writes to `to`, (n, dim), and `zero`, (n,); returns the first bad row, or -1.
template <class Value, class Stored>
int64_t store_rows_arrays(const Array<Value>& from, bool normalize, Array<Stored>& to, Array<bool>& zero) {
  const int64_t count = from.shape(0), dim = from.shape(1);
  if (to.ndim() != 2 || to.shape(0) != count || to.shape(1) != dim || zero.ndim() != 1 || zero.shape(0) != count) {
    throw py::value_error("store_rows: the shapes differ");
  }
  const Value* from_data = from.data();
  Stored* to_data = to.mutable_data();
  bool* zero_data = zero.mutable_data();
  py::gil_scoped_release release;
  return store_rows(from_data, count, static_cast<int>(dim), normalize, to_data, zero_data,
                    pool_executor(nullptr, nullptr));
}

template <class Value, class Stored>
void define_store_rows(py::module_& m) {
  m.def("store_rows", &store_rows_arrays<Value, Stored>, py::arg("values"), py::arg("normalize"),
        py::arg("to").noconvert(), py::arg("zero").noconvert());
}

Array<double> project_array(const Array<double>& vectors, const Array<double>& rows) {
  Array<double> out({vectors.shape(0), rows.shape(0)});
  const double *vector_data = vectors.data(), *row_data = rows.data();
  const int64_t n = vectors.shape(0), m = rows.shape(0), dim = rows.shape(1);
  double* out_data = out.mutable_data();
  py::gil_scoped_release release;
  project(vector_data, n, row_data, m, dim, out_data, pool_executor(nullptr, nullptr));
  return out;
}

// The arrays of a packed memory, as pyhue/_index.py names them.
struct MemoryArrays {
  py::array vectors;  // float32, or bfloat16 as uint16
  Array<int64_t> order;
  Array<uint16_t> blocks;
  Array<float> bounds;
  Array<uint16_t> rows;
  Array<float> row_bounds;
  std::optional<Array<int64_t>> cluster_starts;
  Layout layout;

  PackedMemory packed() {
    return {blocks.mutable_data(), bounds.mutable_data(), rows.mutable_data(), row_bounds.mutable_data()};
  }
  Memory view() {
    return {vectors.data(),   vectors.itemsize() == 2,
            vectors.shape(0), static_cast<int>(vectors.shape(1)),
            layout,           packed(),
            order.data(),     cluster_starts ? cluster_starts->data() : nullptr};
  }
};

struct CoordinateArrays {
  Array<double> values;
  Array<double> squared_norms;
  double orthogonality_error;

  Coordinates view() const { return {values.data(), squared_norms.data(), values.shape(0), orthogonality_error}; }
};

struct QueryArrays {
  Array<float> vectors;
  CoordinateArrays coordinates;
  Array<int32_t> clusters;
  double omit;

  Queries view() const {
    return {vectors.data(), coordinates.view(), clusters.data(), static_cast<int>(clusters.shape(1)), omit};
  }
};

void pack_arrays(MemoryArrays& memory, const CoordinateArrays& coordinates, int64_t first) {
  const Layout layout = memory.layout;
  const PackedMemory to = memory.packed();
  const Coordinates from = coordinates.view();
  py::gil_scoped_release release;
  pack(layout, from, first, to, pool_executor(nullptr, nullptr));
}

py::tuple search_arrays(MemoryArrays& memory_arrays, const QueryArrays& query_arrays, int64_t k) {
  const int64_t n = query_arrays.vectors.shape(0);
  Array<float> distances({n, k});
  Array<int64_t> indices({n, k});
  const Memory memory = memory_arrays.view();
  const Queries queries = query_arrays.view();
  float* distance_data = distances.mutable_data();
  int64_t* index_data = indices.mutable_data();
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = search(memory, queries, n, k, distance_data, index_data, interruption.executor());
  }
  interruption.raise_if(!finished);
  return py::make_tuple(distances, indices);
}

py::tuple audit_arrays(MemoryArrays& memory, const QueryArrays& queries, const Array<float>& distances) {
  Array<uint8_t> stages({distances.shape(0), memory.vectors.shape(0)});
  const double dims = audit(memory.view(), queries.view(), distances.shape(0), distances.data(), stages.mutable_data(),
                            pool_executor(nullptr, nullptr));
  return py::make_tuple(stages, dims);
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
  py::class_<MemoryArrays>(m, "Memory")
      .def(py::init([](py::array vectors, Array<int64_t> order, Array<uint16_t> blocks, Array<float> bounds,
                       Array<uint16_t> rows, Array<float> row_bounds, std::optional<Array<int64_t>> cluster_starts,
                       int block_dims, int row_dims) {
        return MemoryArrays{vectors, order, blocks, bounds, rows, row_bounds, cluster_starts, {block_dims, row_dims}};
      }));
  py::class_<CoordinateArrays>(m, "Coordinates")
      .def(py::init([](Array<double> values, Array<double> squared_norms, double orthogonality_error) {
        return CoordinateArrays{values, squared_norms, orthogonality_error};
      }));
  py::class_<QueryArrays>(m, "Queries")
      .def(py::init([](Array<float> vectors, CoordinateArrays coordinates, Array<int32_t> clusters, double omit) {
        return QueryArrays{vectors, coordinates, clusters, omit};
      }));
  define_store_rows<float, float>(m);
  define_store_rows<double, float>(m);
  define_store_rows<float, uint16_t>(m);
  define_store_rows<double, uint16_t>(m);
  m.def("project", &project_array);
  m.def("pack", &pack_arrays);
  m.def("search", &search_arrays);
  m.def("audit", &audit_arrays);
  m.def("density", &density_arrays);
}

}  // namespace pyhue
