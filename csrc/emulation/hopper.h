// The barriers, bulk copies and products of cuda/hopper.h, for a C++ compiler. A copy's bytes arrive at a random time,
// a product reads shared memory when its warpgroup waits for it, neither earlier: who releases a stage too soon is
// found.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "emulation/fibers.h"

#define PYHUE_HOPPER 1

namespace pyhue::cuda {

// Whether searches run the kernels for Hopper; for tests.
inline bool hopper_chosen = true;
inline bool has_hopper_kernels() { return hopper_chosen; }

struct Barrier {
  uint16_t arrivals;  // that end a phase
  uint8_t pending;    // of them
  uint8_t phase;
  int32_t bytes;  // expected and not there yet
};

// Shared memory begins as ones: nobody may use a barrier before it was started.
inline void require_started(const Barrier& barrier) {
  if (barrier.arrivals == 0xffff) std::abort();
}

// Whether a phase of the parity has ended, as a thread waits for it.
struct PhaseWait {
  const Barrier* barrier;
  unsigned parity;
};

inline void end_phase_if_complete(Barrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = static_cast<uint8_t>(barrier.arrivals);
}

inline void start_barrier(Barrier& barrier, int arrivals) {
  barrier = {static_cast<uint16_t>(arrivals), static_cast<uint8_t>(arrivals), 0, 0};
}
inline void show_barriers() {}
inline void arrive(Barrier& barrier) {
  require_started(barrier);
  if (barrier.pending == 0) std::abort();
  --barrier.pending;
  end_phase_if_complete(barrier);
}
inline void arrive_expecting(Barrier& barrier, int bytes) {
  require_started(barrier);
  barrier.bytes += bytes;
  arrive(barrier);
}
inline void wait_for_phase(Barrier& barrier, unsigned parity) {
  require_started(barrier);
  const PhaseWait wait{&barrier, parity};
  emulation::wait_until(
      [](const void* argument) {
        const PhaseWait& wait = *static_cast<const PhaseWait*>(argument);
        return (wait.barrier->phase & 1u) != wait.parity;
      },
      &wait);
}

inline void copy_bulk(void* to, const void* from, int bytes, Barrier& barrier) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) {
    std::abort();
  }
  emulation::do_later([=, &barrier] {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    barrier.bytes -= bytes;
    end_phase_if_complete(barrier);
  });
}

inline uint64_t tile_descriptor(const void* tile) {
  const ptrdiff_t offset = static_cast<const unsigned char*>(tile) - emulation::dynamic_memory.begin();
  if (offset % 1024 != 0) std::abort();
  return descriptor_of(static_cast<uint32_t>(offset));
}

// A product that a thread has started, with its share of the sums: `columns` / 8 fragments.
struct Product {
  float (*sums)[4];
  int columns;
  uint64_t a, b;
  bool accumulate;
};
inline std::vector<Product>& started_products() {
  static std::vector<Product> of_thread[emulation::kMaxThreads];
  return of_thread[emulation::current->index.x];
}

inline void begin_products() {}
inline void commit_products() {}

// Element (row, dimension) of the matrix that a descriptor names, as the hardware finds it: the bits of the address
// that count pieces are permuted by those that count rows.
inline float described_element(uint64_t descriptor, int row, int dimension) {
  if (descriptor >> 62 != 1) std::abort();
  const auto group_bytes = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) * 16;
  uint32_t address = static_cast<uint32_t>(descriptor & 0x3fff) * 16;
  address += static_cast<uint32_t>(row / 8) * group_bytes + static_cast<uint32_t>(row % 8 * 128 + dimension * 2);
  address ^= (address >> 7 & 7) << 4;
  uint16_t value;
  std::memcpy(&value, emulation::dynamic_memory.begin() + address, 2);
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// One product of a warpgroup; `of_thread` has each thread's share.
inline void multiply_now(Product* const (&of_thread)[emulation::kWarpgroup]) {
  const Product& first = *of_thread[0];
  float a[64][16], b[16 / 4][256 / 8][4][8];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) a[row][k] = described_element(first.a, row, k);
    for (int row = 0; row < first.columns; ++row)
      b[k / 4][row / 8][k % 4][row % 8] = described_element(first.b, row, k);
  }
  for (int thread = 0; thread < emulation::kWarpgroup; ++thread) {
    const Product& product = *of_thread[thread];
    if (product.a != first.a || product.b != first.b || product.columns != first.columns) std::abort();
    for (int i = 0; i < first.columns / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8, column = 2 * (thread % 4) + i % 2;
      float& sum = product.sums[i / 4][i % 4];
      if (!product.accumulate) sum = 0;
      for (int k = 0; k < 16; k += 4) sum = add_products(sum, a[row] + k, b[k / 4][i / 4], column);
    }
  }
}

template <int kRows, int kColumns>
void wait_products(float (&)[kRows][kColumns][4]) {
  static const char kind = 0;
  emulation::Thread& thread = *emulation::current;
  emulation::meet(*thread.warpgroup, static_cast<int>(thread.index.x) % emulation::kWarpgroup, &kind,
                  &started_products(), [](void** all, int) {
                    Product* of_thread[emulation::kWarpgroup];
                    const auto products = [&](int i) -> auto& { return *static_cast<std::vector<Product>*>(all[i]); };
                    for (size_t product = 0; product < products(0).size(); ++product) {
                      for (int i = 0; i < emulation::kWarpgroup; ++i) of_thread[i] = &products(i).at(product);
                      multiply_now(of_thread);
                    }
                    for (int i = 0; i < emulation::kWarpgroup; ++i) products(i).clear();
                  });
}

template <int kColumns>
void multiply_tiles(float (&sums)[kColumns][4], uint64_t a, uint64_t b, bool accumulate) {
  started_products().push_back({sums, 8 * kColumns, a, b, accumulate});
}

}  // namespace pyhue::cuda
