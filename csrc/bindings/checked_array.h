// NumPy arrays where they enter C++: of the right dtype and shape, contiguous and aligned, or a ValueError that names
// them.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

namespace pyhue {

using Shape = std::vector<pybind11::ssize_t>;

inline std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (pybind11::ssize_t size : shape) text += (size < 0 ? std::string("n") : std::to_string(size)) + ",";
  if (shape.size() != 1) text.pop_back();
  return text + ")";
}

// `array`, after a look at it; -1 in `shape` is any size. Read-only arrays pass.
template <class T>
pybind11::array_t<T> checked(const pybind11::array& array, const char* name, const Shape& shape) {
  namespace py = pybind11;
  bool fits = py::isinstance<py::array_t<T, py::array::c_style>>(array) &&
              reinterpret_cast<uintptr_t>(array.data()) % alignof(T) == 0 &&
              array.ndim() == static_cast<py::ssize_t>(shape.size());
  for (size_t axis = 0; fits && axis < shape.size(); ++axis) {
    fits = shape[axis] < 0 || shape[axis] == array.shape(static_cast<py::ssize_t>(axis));
  }
  if (!fits) {
    throw py::value_error(std::string(name) + ": expected " + py::str(py::dtype::of<T>()).cast<std::string>() + " " +
                          text_of(shape) + ", contiguous and aligned, got " +
                          py::str(array.dtype()).cast<std::string>() + " " +
                          text_of(Shape(array.shape(), array.shape() + array.ndim())));
  }
  return py::reinterpret_borrow<py::array_t<T>>(array);
}

inline void require(bool holds, const char* name, const char* expected) {
  if (!holds) throw pybind11::value_error(std::string(name) + ": expected " + expected);
}

}  // namespace pyhue
