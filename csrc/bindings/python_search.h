// The search of pyhue._core.
#pragma once

#include <pybind11/pybind11.h>

namespace pyhue {

void bind_search(pybind11::module_& m);

}  // namespace pyhue
