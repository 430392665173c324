// How kernels get their threads: the core owns none. Whoever calls it passes an Executor; the NumPy
// bindings pass a thread pool, the torch ops pass torch's parallel_for.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/floating_point.h"

namespace pyhue {

struct Executor {
  int workers;  // how many may run at once, at least 1
  void* context;
  // Calls body(argument, worker) for every worker in 0 .. workers-1, possibly at once, and waits.
  // Worker 0 runs in the calling thread. The body does not throw.
  void (*run)(void* context, int workers, void (*body)(void* argument, int worker), void* argument);
  // Asked by worker 0 between chunks of work: true ends the work early. May be null.
  bool (*interrupted)(void* context);
  // A search of fewer products than this stays with worker 0: to wake another would cost more than it saves.
  int64_t least_products = 0;
};

// Calls chunk(index, worker) once for each index in 0 .. count-1. Workers pull indices from a counter,
// so a core that another process slows down holds nobody up. Arithmetic is standard there, whatever the threads'
// mode is. Returns false when interrupted.
template <class Chunk>
bool for_each_chunk(const Executor& executor, int64_t count, Chunk chunk) {
  struct Shared {
    const Executor& executor;
    Chunk& chunk;
    int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<bool> stop{false};
  } shared{executor, chunk, count};
  auto body = [](void* argument, int worker) {
    const StandardArithmetic standard;
    Shared& s = *static_cast<Shared*>(argument);
    while (!s.stop.load(std::memory_order_relaxed)) {
      const int64_t index = s.next.fetch_add(1, std::memory_order_relaxed);
      if (index >= s.count) return;
      s.chunk(index, worker);
      if (worker == 0 && s.executor.interrupted && s.executor.interrupted(s.executor.context)) {
        s.stop.store(true, std::memory_order_relaxed);
      }
    }
  };
  if (executor.workers == 1 || count == 1) {
    body(&shared, 0);
  } else {
    executor.run(executor.context, executor.workers, body, &shared);
  }
  return !shared.stop.load(std::memory_order_relaxed);
}

}  // namespace pyhue
