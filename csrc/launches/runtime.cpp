#include "launches/runtime.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace pyhue::launches {
namespace {

constexpr int64_t kReservedBytes = 1024;   // of shared memory, for each block
constexpr int64_t kGivenBytes = 48 << 10;  // of it that a block has unless more is allowed
constexpr int64_t kParts = 4;              // of a multiprocessor, each with a quarter of its 65,536 registers

const Gpu* gpu;
const std::map<std::string, Usage>* kernels;
std::map<const void*, int64_t> allowed;  // dynamic bytes
std::map<std::string, Launched> all_launched;
std::string refusal;

std::map<const void*, std::string>& names() {
  static std::map<const void*, std::string> by_function;  // filled before main
  return by_function;
}

const Usage& usage_of(const void* function) {
  const auto found = kernels->find(names().at(function));
  if (found == kernels->end()) throw std::logic_error("no usage of " + names().at(function));
  return found->second;
}

cudaError_t refuse(const void* function, const std::string& why) {
  refusal = names().at(function) + ": " + why;
  return cudaErrorInvalidValue;
}

std::string numbers(int64_t asked, int64_t most) { return std::to_string(asked) + " of " + std::to_string(most); }

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* function) {
  const Usage& usage = usage_of(function);
  const int64_t dynamic = static_cast<int64_t>(config.dynamicSmemBytes);
  const int64_t threads = int64_t{config.blockDim.x} * config.blockDim.y * config.blockDim.z;
  const auto found = allowed.find(function);
  const int64_t most = found == allowed.end() ? kGivenBytes - usage.static_shared : found->second;
  if (dynamic > most) return refuse(function, "bytes of dynamic shared memory: " + numbers(dynamic, most));
  if (threads < 1 || threads > 1024) return refuse(function, "threads of a block: " + numbers(threads, 1024));
  const int64_t warps = (threads + 31) / 32, of_warp = (usage.registers * 32 + 255) / 256 * 256;
  const int64_t by_registers = 65536 / kParts / of_warp * kParts / warps;
  if (by_registers < 1) return refuse(function, "registers of a thread: " + std::to_string(usage.registers));
  const dim3 grid = config.gridDim;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1) return refuse(function, "a grid without blocks");
  if (grid.x > 0x7fffffffu) return refuse(function, "blocks in x: " + numbers(grid.x, 0x7fffffff));
  if (grid.y > 65535 || grid.z > 65535) return refuse(function, "blocks in y or z: " + numbers(grid.y, 65535));

  const int64_t shared = dynamic + usage.static_shared + kReservedBytes;
  const int64_t by_shared = gpu->shared_of_multiprocessor / ((shared + 127) / 128 * 128);
  const int64_t by_threads = gpu->threads_of_multiprocessor / threads;
  Launched& launched = all_launched.try_emplace(names().at(function), Launched{0, by_threads}).first->second;
  ++launched.launches;
  launched.fewest = std::min({launched.fewest, by_registers, by_shared, by_threads});
  return cudaSuccess;
}

}  // namespace

void use(const Gpu& chosen, const std::map<std::string, Usage>& its_kernels) {
  gpu = &chosen;
  kernels = &its_kernels;
  allowed.clear();
  all_launched.clear();
}

const std::map<std::string, Launched>& launched() { return all_launched; }

}  // namespace pyhue::launches

using namespace pyhue::launches;

extern "C" {

// What nvcc makes a program call before main, to register its kernels.
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*, void*, void*, void*,
                            int*) {
  names()[function] = name;
}
// And in the bodies of kernels, which `launch` does not call.
unsigned __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { std::abort(); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { std::abort(); }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { std::abort(); }

const char* cudaGetErrorString(cudaError_t) { return refusal.c_str(); }

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = gpu->multiprocessors; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(gpu->shared_of_multiprocessor - kReservedBytes);
      break;
    case cudaDevAttrComputeCapabilityMajor: *value = gpu->major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = gpu->minor; break;
    default: throw std::logic_error("cudaDeviceGetAttribute: not known here: " + std::to_string(attribute));
  }
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  *attributes = {};
  attributes->sharedSizeBytes = static_cast<size_t>(usage_of(function).static_shared);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int value) {
  const int64_t most = gpu->shared_of_multiprocessor - kReservedBytes - usage_of(function).static_shared;
  if (value < 0 || value > most) return refuse(function, "bytes of dynamic shared memory: " + numbers(value, most));
  allowed[function] = value;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
  return check_launch(*config, function);
}
}
