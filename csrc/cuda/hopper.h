// What the kernels for Hopper (sm_90a) need of CUDA: barriers in shared memory that count bytes, bulk copies, products
// of warpgroups. A C++ compiler gets the same names from emulation/hopper.h. Code that uses them is compiled where
// PYHUE_HOPPER is 1, and runs where has_hopper_kernels().
#pragma once

#include "cuda/device.h"
#include "cuda/packed.h"

namespace pyhue::cuda {

constexpr int kProductDims = 16;  // of a matrix instruction

// How the matrix instructions find a tile of packed.h at `address` of shared memory, a multiple of 1,024: rows of 128
// bytes, permuted, 8 of them in 1,024 bytes (PTX ISA, matrix descriptor: addresses in units of 16 bytes; layout 1).
PYHUE_HOST_DEVICE constexpr uint64_t descriptor_of(uint32_t address) {
  return uint64_t{1} << 62 | uint64_t{1024 / 16} << 32 | uint64_t{1} << 16 | (address & 0x3ffff) >> 4;
}
// The descriptor of the k-th 16 dimensions of the tile.
PYHUE_HOST_DEVICE constexpr uint64_t step(uint64_t descriptor, int k) {
  return descriptor + static_cast<uint64_t>(k * kProductDims * 2 / 16);
}

}  // namespace pyhue::cuda

#if !defined(__CUDACC__)
#include "emulation/hopper.h"  // IWYU pragma: export
#else

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PYHUE_HOPPER 1
#else
#define PYHUE_HOPPER 0
#endif

namespace pyhue::cuda {

// Whether the code for sm_90a is there and this device runs it.
inline bool has_hopper_kernels() {
#if defined(PYHUE_SM90A)
  return device_attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         device_attribute(cudaDevAttrComputeCapabilityMinor) == 0;
#else
  return false;
#endif
}

struct Barrier {
  uint64_t state;
};

#if PYHUE_HOPPER

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// A phase ends after `arrivals` of them and as many bytes as were expected.
__device__ inline void start_barrier(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
// Before a block's other threads, and the copies, use the barriers that a thread has started.
__device__ inline void show_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
__device__ inline void arrive_expecting(Barrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}
// Waits for the end of the barrier's current phase if that is `parity`; of a new barrier phase 1 has ended.
__device__ inline void wait_for_phase(Barrier& barrier, unsigned parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  } while (!done);
}

// Starts a copy to shared memory; its bytes arrive at the barrier.
__device__ inline void copy_bulk(void* to, const void* from, int bytes, Barrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
}

__device__ inline uint64_t tile_descriptor(const void* tile) { return descriptor_of(shared_address(tile)); }

// Before the first product that reads what others wrote to shared memory or to the sums.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits for all products; the sums may be read.
template <int kRows, int kColumns>
__device__ inline void wait_products(float (&sums)[kRows][kColumns][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < kRows * kColumns * 4; ++i) {
    asm volatile("" : "+f"(sums[i / 4 / kColumns][i / 4 % kColumns][i % 4])::"memory");  // not earlier
  }
}

#define PYHUE_4(d, i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define PYHUE_32(d, i)                                                                                          \
  PYHUE_4(d, i), PYHUE_4(d, i + 1), PYHUE_4(d, i + 2), PYHUE_4(d, i + 3), PYHUE_4(d, i + 4), PYHUE_4(d, i + 5), \
      PYHUE_4(d, i + 6), PYHUE_4(d, i + 7)
// Register names of an instruction, ten by ten.
#define PYHUE_TEN(t) "%" t "0, %" t "1, %" t "2, %" t "3, %" t "4, %" t "5, %" t "6, %" t "7, %" t "8, %" t "9, "
#define PYHUE_60 PYHUE_TEN("") PYHUE_TEN("1") PYHUE_TEN("2") PYHUE_TEN("3") PYHUE_TEN("4") PYHUE_TEN("5")
#define PYHUE_WGMMA(columns, registers, a, b, p) \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " p          \
  ", 0;\n"                                       \
  "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers "}, " a ", " b ", p, 1, 1, 0, 0;\n}"

// Starts sums = a b' + sums, or a b' unless `accumulate`: 64 rows of a, 8 kColumns rows of b, 16 dimensions of each.
// The warps of a group have 16 rows each, in the fragments of multiply_matrices.
__device__ inline void multiply_tiles(float (&sums)[8][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(PYHUE_WGMMA("64", PYHUE_TEN("") PYHUE_TEN("1") PYHUE_TEN("2") "%30, %31", "%32", "%33", "%34")
               : PYHUE_32(sums, 0)
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
__device__ inline void multiply_tiles(float (&sums)[16][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(PYHUE_WGMMA("128", PYHUE_60 "%60, %61, %62, %63", "%64", "%65", "%66")
               : PYHUE_32(sums, 0), PYHUE_32(sums, 8)
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
__device__ inline void multiply_tiles(float (&sums)[32][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(PYHUE_WGMMA("256",
                           PYHUE_60 PYHUE_TEN("6") PYHUE_TEN("7") PYHUE_TEN("8") PYHUE_TEN("9") PYHUE_TEN("10")
                               PYHUE_TEN("11") "%120, %121, %122, %123, %124, %125, %126, %127",
                           "%128", "%129", "%130")
               : PYHUE_32(sums, 0), PYHUE_32(sums, 8), PYHUE_32(sums, 16), PYHUE_32(sums, 24)
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
#undef PYHUE_4
#undef PYHUE_32
#undef PYHUE_TEN
#undef PYHUE_60
#undef PYHUE_WGMMA

#endif
}  // namespace pyhue::cuda
#endif
