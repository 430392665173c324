// CUDA's language as far as csrc/cuda uses it, for a C++ compiler: kernels run on the CPU, a fiber for each thread
// (fibers.h). For tests of the kernels' arithmetic, indexing and barriers on machines without a GPU; slow.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <tuple>

#include "cuda/stream.h"
#include "emulation/fibers.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks run one after the other
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define threadIdx (::pyhue::emulation::current->index)
#define blockIdx (::pyhue::emulation::block_index)
#define blockDim (::pyhue::emulation::block_size)
#define gridDim (::pyhue::emulation::grid_size)

using dim3 = pyhue::emulation::Index;
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

constexpr unsigned kFullMask = 0xffffffffu;

inline void __syncthreads() {
  using namespace pyhue::emulation;
  static const char kind = 0;
  meet(*current->block, static_cast<int>(current->index.x), &kind, nullptr, [](void**, int) {});
}

inline int __syncthreads_or(int predicate) {
  using namespace pyhue::emulation;
  static const char kind = 0;
  int value = predicate;
  meet(*current->block, static_cast<int>(current->index.x), &kind, &value, [](void** all, int size) {
    int any = 0;
    for (int i = 0; i < size; ++i) any |= *static_cast<int*>(all[i]) != 0;
    for (int i = 0; i < size; ++i) *static_cast<int*>(all[i]) = any;
  });
  return value;
}

inline void __syncwarp() {
  int none = 0;
  pyhue::emulation::meet_warp(none, [](auto) {});
}

namespace pyhue::emulation {

// The value of another lane: `source(lane)`, or the lane's own where that is past the warp.
template <class T>
T exchange(T value, int source) {
  struct Exchange {
    T given, taken;
    int source;
  } exchange{value, value, source};
  meet_warp(exchange, [](auto lanes) {
    for (int i = 0; i < kWarp; ++i) {
      const int from = lanes(i).source;
      lanes(i).taken = from < kWarp ? lanes(from).given : lanes(i).given;
    }
  });
  return exchange.taken;
}

}  // namespace pyhue::emulation

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return pyhue::emulation::exchange(value, pyhue::emulation::current->lane ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int delta) {
  return pyhue::emulation::exchange(value, pyhue::emulation::current->lane + delta);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return pyhue::emulation::exchange(value, lane);
}

inline unsigned __ballot_sync(unsigned, bool bit) {
  struct Ballot {
    bool bit;
    unsigned bits;
  } ballot{bit, 0};
  pyhue::emulation::meet_warp(ballot, [](auto lanes) {
    unsigned bits = 0;
    for (int i = 0; i < pyhue::emulation::kWarp; ++i) bits |= static_cast<unsigned>(lanes(i).bit) << i;
    for (int i = 0; i < pyhue::emulation::kWarp; ++i) lanes(i).bits = bits;
  });
  return ballot.bits;
}

template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to = static_cast<T>(before + value);
  return before;
}

inline int __ffs(int value) { return __builtin_ffs(value); }

// Rounded once each: this is compiled without contraction.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float rsqrtf(float a) { return 1 / std::sqrt(a); }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }

namespace pyhue::cuda {

inline unsigned char* dynamic_shared() { return emulation::dynamic_memory.begin(); }
inline unsigned char* dynamic_tiles() { return dynamic_shared(); }

// Starts a copy of 16 bytes to shared memory, or of 16 zeros where not `valid`.
inline void copy_async(void* to, const void* from, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) std::abort();
  emulation::current->copies.push_back({to, from, valid ? 16 : 0, emulation::current->groups});
}
inline void commit_copies() { ++emulation::current->groups; }
// Waits until at most `kPending` of the groups committed so far are under way.
template <int kPending>
void wait_copies() {
  emulation::Thread& thread = *emulation::current;
  while (!thread.copies.empty() && thread.copies.front().group < thread.groups - kPending) {
    const emulation::Copy& copy = thread.copies.front();
    std::memset(copy.to, 0, 16);
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    thread.copies.pop_front();
  }
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. A lane gets elements
// 2 (l % 4) and the next of row l / 4 of each matrix.
inline void load_matrices(uint32_t (&to)[4], const void* row) {
  struct Load {
    const void* row;
    uint32_t words[4];
  } load{row, {}};
  emulation::meet_warp(load, [](auto lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const void* from = lanes(8 * matrix + lane / 4).row;
        std::memcpy(&lanes(lane).words[matrix], static_cast<const uint16_t*>(from) + 2 * (lane % 4), 4);
      }
    }
  });
  std::copy_n(load.words, 4, to);
}

// d plus four products as the coarsest tensor cores add them (V100; later ones keep more): each term is cut off 23 bits
// below the largest, and so is the sum.
inline float add_products(float d, const float* a, const float (*b)[8], int column) {
  double terms[5] = {d}, largest = std::fabs(terms[0]), total = 0;
  for (int k = 0; k < 4; ++k) {
    terms[k + 1] = double{a[k]} * b[k][column];
    largest = std::max(largest, std::fabs(terms[k + 1]));
  }
  if (!(largest > 1e-30 && largest < 1e300)) {
    return static_cast<float>(terms[0] + terms[1] + terms[2] + terms[3] + terms[4]);
  }
  constexpr uint64_t kExponent = uint64_t{0x7ff} << 52;
  const double unit = std::bit_cast<double>((std::bit_cast<uint64_t>(largest) & kExponent) - (uint64_t{23} << 52));
  for (const double term : terms) total += static_cast<double>(static_cast<int64_t>(term / unit)) * unit;
  return static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(total) & ~((uint64_t{1} << 29) - 1)));
}

// d += a b, 16 x 16 times 16 x 8 of bfloat16, in the fragments of mma.m16n8k16 (PTX ISA 9.7.14.5.8).
inline void multiply_matrices(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Multiply {
    uint32_t a[4], b[2];
    float d[4];
  } multiply{{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  emulation::meet_warp(multiply, [](auto lanes) {
    const auto half = [](uint32_t word, int i) { return std::bit_cast<float>(i ? word & 0xffff0000u : word << 16); };
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4, pair = 2 * (lane % 4);
      for (int i = 0; i < 2; ++i) {
        for (int part = 0; part < 4; ++part) {
          left[group + 8 * (part % 2)][pair + i + 8 * (part / 2)] = half(lanes(lane).a[part], i);
        }
        for (int part = 0; part < 2; ++part) right[pair + i + 8 * part][group] = half(lanes(lane).b[part], i);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 16; k += 4) {
          lanes(lane).d[i] = add_products(lanes(lane).d[i], left[row] + k, right + k, column);
        }
      }
    }
  });
  std::copy_n(multiply.d, 4, d);
}

inline std::mutex one_at_a_time;  // of all kernels: they share the fibers and the dynamic memory

// kernel<<<grid, block, dynamic_bytes, stream>>>(arguments...).
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t,
            const Arguments&... arguments) {
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> parameters;
  } call{kernel, {arguments...}};
  emulation::run(
      grid, block, dynamic_bytes,
      [](void* argument) {
        const Call& given = *static_cast<Call*>(argument);
        std::apply(given.kernel, given.parameters);
      },
      &call);
}

// Small, so that tests of a few classes and queries meet every path.
inline int multiprocessors() { return 3; }
inline int64_t shared_limit() { return 6 * 1024; }
template <class Kernel>
int64_t static_shared(Kernel) {
  return 1280;
}

}  // namespace pyhue::cuda
