#include "emulation/fibers.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace pyhue::emulation {

Thread* current;
Index block_index, block_size, grid_size;
DynamicMemory dynamic_memory;

namespace {

constexpr size_t kStack = 256 * 1024;

// Where to go on. GCC's own jumps: those of the C library are checked (_FORTIFY_SOURCE) or, under the address
// sanitizer, slow, and swapcontext would save the signal mask, a system call. Contexts only start fibers.
using Place = void* [5];

// Opaque, so that the compiler expects every call of it to come back to the caller's own place.
[[gnu::noipa]] void go_to(Place& place) { __builtin_longjmp(place, 1); }

struct Fiber : Thread {
  ucontext_t context;
  Place place;
  bool started = false;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStack);
};

Place scheduler;
const void* scheduler_stack;
size_t scheduler_size;
std::deque<Fiber> fibers;  // kept from launch to launch
std::vector<Fiber*> runnable;
struct Waiting {
  Fiber* fiber;
  bool (*ready)(const void*);
  const void* argument;
};
std::vector<Waiting> waiting;
std::vector<std::function<void()>> later;
int finished;
void (*block_body)(void*);
void* block_argument;
std::minstd_rand random_numbers;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s (block %u, thread %u)\n", what, block_index.x, current->index.x);
  std::abort();
}

void start_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, stack, size);
#endif
}
void finish_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** stack, [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, stack, size);
#endif
}

void enter() {
  finish_switch(nullptr, &scheduler_stack, &scheduler_size);
  block_body(block_argument);
  if (!current->copies.empty()) fail("a thread returned before its asynchronous copies were waited for");
  ++finished;
  start_switch(nullptr, scheduler_stack, scheduler_size);
  go_to(scheduler);
}

[[gnu::noinline]] void resume(Fiber& fiber) {
  current = &fiber;
  void* fake = nullptr;
  start_switch(&fake, fiber.stack.get(), kStack);
  if (__builtin_setjmp(scheduler) == 0) {
    if (fiber.started) go_to(fiber.place);
    fiber.started = true;
    setcontext(&fiber.context);
  }
  finish_switch(fake, nullptr, nullptr);
}

[[gnu::noinline]] void yield() {
  Fiber& fiber = *static_cast<Fiber*>(current);
  void* fake = nullptr;
  start_switch(&fake, scheduler_stack, scheduler_size);
  if (__builtin_setjmp(fiber.place) == 0) go_to(scheduler);
  finish_switch(fake, &scheduler_stack, &scheduler_size);
}

void prepare(Fiber& fiber, int thread, Meeting& warp, Meeting& warpgroup, Meeting& block) {
  fiber.index = Index(static_cast<unsigned>(thread), 0, 0);
  fiber.lane = thread % kWarp;
  fiber.warp = &warp;
  fiber.warpgroup = &warpgroup;
  fiber.block = &block;
  fiber.groups = 0;
  fiber.started = false;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
}

// The threads of a block that meet: each warp, each warpgroup, all.
struct Meetings {
  explicit Meetings(int threads)
      : warps(static_cast<size_t>(threads / kWarp)), warpgroups(static_cast<size_t>(threads / kWarpgroup + 1)) {
    for (auto& warp : warps) warp.size = kWarp;
    for (auto& warpgroup : warpgroups) warpgroup.size = kWarpgroup;
    block.size = threads;
  }
  std::vector<Meeting> warps, warpgroups;
  Meeting block;
};

template <class T>
T take_random(std::vector<T>& items) {
  std::swap(items[random_numbers() % items.size()], items.back());
  T item = std::move(items.back());
  items.pop_back();
  return item;
}

void release_waiting() {
  for (size_t i = 0; i < waiting.size();) {
    if (waiting[i].ready(waiting[i].argument)) {
      runnable.push_back(waiting[i].fiber);
      waiting[i] = waiting.back();
      waiting.pop_back();
    } else {
      ++i;
    }
  }
}

void run_block(int threads, Meetings& meetings) {
  std::fill(dynamic_memory.begin(), dynamic_memory.end(), static_cast<unsigned char>(0xff));
  finished = 0;
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[static_cast<size_t>(i)];
    prepare(fiber, i, meetings.warps[static_cast<size_t>(i / kWarp)],
            meetings.warpgroups[static_cast<size_t>(i / kWarpgroup)], meetings.block);
    runnable.push_back(&fiber);
  }
  std::shuffle(runnable.begin(), runnable.end(), random_numbers);
  const bool race = random_numbers() % 2;  // a warp runs ahead as far as barriers let it
  while (!runnable.empty() || !later.empty()) {
    if (!later.empty() && (runnable.empty() || (!race && random_numbers() % 8 == 0))) {
      take_random(later)();
    } else if (race) {
      Fiber* next = runnable.back();
      runnable.pop_back();
      resume(*next);
    } else {
      resume(*take_random(runnable));
    }
    release_waiting();
  }
  if (finished != threads) fail("threads wait for others that have returned or wait elsewhere");
}

}  // namespace

void run(Index grid, Index block, size_t dynamic_bytes, void (*body)(void*), void* argument) {
  if (block.x % kWarp != 0 || block.x == 0 || block.x > kMaxThreads || block.y != 1 || block.z != 1 || grid.x == 0 ||
      grid.y == 0 || grid.y > 65535 || grid.z != 1) {
    std::fprintf(stderr, "CUDA emulation: a launch of grid %u x %u, block %u\n", grid.x, grid.y, block.x);
    std::abort();
  }
  grid_size = grid;
  block_size = block;
  block_body = body;
  block_argument = argument;
  dynamic_memory.resize(dynamic_bytes);
  while (fibers.size() < block.x) fibers.emplace_back();
  Meetings meetings(static_cast<int>(block.x));
  std::vector<uint64_t> order(uint64_t{grid.x} * grid.y);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_numbers);
  for (const uint64_t place : order) {
    block_index = Index(static_cast<unsigned>(place % grid.x), static_cast<unsigned>(place / grid.x), 0);
    run_block(static_cast<int>(block.x), meetings);
  }
}

void meet(Meeting& meeting, int place, const void* kind, void* argument, void (*action)(void** arguments, int size)) {
  if (meeting.arrived > 0 && meeting.kind != kind) fail("threads met at different barriers");
  meeting.kind = kind;
  meeting.arguments[place] = argument;
  if (++meeting.arrived < meeting.size) {
    meeting.waiting[meeting.arrived - 1] = current;
    return yield();
  }
  meeting.arrived = 0;
  action(meeting.arguments, meeting.size);
  for (int i = 0; i + 1 < meeting.size; ++i) runnable.push_back(static_cast<Fiber*>(meeting.waiting[i]));
}

void wait_until(bool (*ready)(const void*), const void* argument) {
  while (!ready(argument)) {
    waiting.push_back({static_cast<Fiber*>(current), ready, argument});
    yield();
  }
}

void do_later(std::function<void()> action) { later.push_back(std::move(action)); }

}  // namespace pyhue::emulation
