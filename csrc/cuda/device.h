// What the kernels need of CUDA beyond its language: checked launches, asynchronous copies, matrix instructions.
// A C++ compiler gets the same names from emulation/cuda.h and runs the kernels on the CPU.
#pragma once

#if !defined(__CUDACC__)
#include "emulation/cuda.h"  // IWYU pragma: export
#else

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

constexpr unsigned kFullMask = 0xffffffffu;

namespace pyhue::cuda {

inline void check(cudaError_t status, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": CUDA: " + cudaGetErrorString(status));
}
#define PYHUE_CUDA_CHECK(call) ::pyhue::cuda::check(call, __FILE__, __LINE__)

__device__ inline unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
}
// The same for tiles of packed.h. The alignment makes static shared memory longer too, by up to 1,008 bytes.
__device__ inline unsigned char* dynamic_tiles() {
  extern __shared__ __align__(1024) unsigned char tiles[];
  return tiles;
}

// Starts a copy of 16 bytes to shared memory, or of 16 zeros where not `valid`.
__device__ inline void copy_async(void* to, const void* from, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of the groups committed so far are under way.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. A lane gets elements
// 2 (l % 4) and the next of row l / 4 of each matrix.
__device__ inline void load_matrices(uint32_t (&to)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// d += a b, 16 x 16 times 16 x 8 of bfloat16, in the fragments of mma.m16n8k16 (PTX ISA 9.7.14.5.8).
__device__ inline void multiply_matrices(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

inline int device_attribute(cudaDeviceAttr attribute) {
  int device, value;
  PYHUE_CUDA_CHECK(cudaGetDevice(&device));
  PYHUE_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

inline int multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }
// Bytes of shared memory that a block may have.
inline int64_t shared_limit() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }
// Those of them that a kernel takes whatever its launch asks for.
template <class... Parameters>
int64_t static_shared(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  PYHUE_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  return static_cast<int64_t>(attributes.sharedSizeBytes);
}

// Launches the kernel, checked. (clang-format would break the <<< >>> of a launch.)
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream,
            const Arguments&... arguments) {
  // A block has 48 KiB, static ones included, unless more was allowed; always all there is, so that threads that launch
  // the same kernel do not take each other's away.
  if (dynamic_bytes > 32 * 1024) {
    PYHUE_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(shared_limit() - static_shared(kernel))));
  }
  const cudaLaunchConfig_t config{grid, block, dynamic_bytes, stream, nullptr, 0};
  PYHUE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

}  // namespace pyhue::cuda

#endif
