// pyhue._core: the kernels on NumPy arrays. Arrays come checked from Python, those of a packed memory are checked again
// (search_arrays.h); every call releases the GIL. The module is a map: one line registers one function.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>

#include "bindings/interruption.h"
#include "bindings/python_search.h"
#include "bindings/thread_pool.h"
#include "core/density.h"
#include "core/hue_cross_entropy.h"
#include "core/isa.h"
#include "core/rows.h"

namespace py = pybind11;

namespace pyhue {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

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

template <class Distance>
Array<double> density_arrays(const Array<Distance>& distances, const Array<int64_t>& labels,
                             const Array<int64_t>& class_counts, double eps) {
  const int64_t images = distances.shape(0), classes = class_counts.shape(0);
  Array<double> out({images, classes});
  const int64_t pixels = distances.shape(1), k = distances.shape(2);
  const Distance* distance_data = distances.data();
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

// By this symbol threadpoolctl knows the library (pyhue/_threads.py).
extern "C" __attribute__((visibility("default"))) int pyhue_num_threads() { return num_threads(); }

PYBIND11_MODULE(_core, m) {
  set_isa_from_environment();
  m.attr("reductions") = std::map<std::string, int>{{"none", static_cast<int>(Reduction::kNone)},
                                                    {"mean", static_cast<int>(Reduction::kMean)},
                                                    {"sum", static_cast<int>(Reduction::kSum)}};
  m.attr("hue_outputs") = py::make_tuple(+kGradients, +kLabelGradient, +kTargetGradient, +kLse, +kCorrect);
  m.def("isa", &isa);
  m.def("available_isas", &available_isas);
  m.def("set_isa", &set_isa);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("least_products", &least_products);
  m.def("set_least_products", &set_least_products);
  m.def("limit_threads", &limit_threads);
  define_store_rows<float, float>(m);
  define_store_rows<double, float>(m);
  define_store_rows<float, uint16_t>(m);
  define_store_rows<double, uint16_t>(m);
  bind_search(m);
  m.def("density", &density_arrays<float>);
  m.def("density", &density_arrays<double>);
}

}  // namespace pyhue
