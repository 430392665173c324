// A CUDA runtime that launches nothing: it refuses what a GPU would refuse, so that launches are checked without one.
// It stands in for cudart where the kernels of csrc/cuda are linked.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace pyhue::launches {

// What a launch may ask of a GPU (CUDA C++ Programming Guide, technical specifications by compute capability).
struct Gpu {
  const char* name;
  const char* target;  // whose machine code it runs
  int major, minor, multiprocessors;
  int64_t shared_of_multiprocessor;  // bytes; a block may have 1,024 fewer
  int64_t threads_of_multiprocessor;
};

// What ptxas gave a kernel.
struct Usage {
  int64_t registers;      // of a thread
  int64_t static_shared;  // bytes of a block
};

// What a kernel's launches asked for so far.
struct Launched {
  int64_t launches;
  int64_t fewest;  // blocks that a multiprocessor holds at once
};

// Which GPU there is from now on, and its kernels by their mangled names. Nothing has been launched on it.
void use(const Gpu& gpu, const std::map<std::string, Usage>& kernels);
const std::map<std::string, Launched>& launched();

}  // namespace pyhue::launches
