// Lets Ctrl-C through a long call.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

#include "bindings/thread_pool.h"

namespace pyhue {

// The calling thread asks Python for signals ten times a second.
class Interruption {
 public:
  Executor executor() {
    return pool_executor(this, [](void* self) { return static_cast<Interruption*>(self)->check(); });
  }

  // After the GIL is back: raises KeyboardInterrupt, or whatever the signal handler raised.
  void raise_if(bool interrupted) const {
    if (interrupted) throw pybind11::error_already_set();
  }

 private:
  bool check() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(100);
    pybind11::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
};

}  // namespace pyhue
