// The threads of one CUDA block as fibers of one CPU thread.
//
// A fiber runs until it meets the others of its warp or block at a barrier. Which one goes on then is drawn at random,
// or, in a block in two, is one of those that were released last, so that a warp runs ahead: code that lacks a barrier
// gives wrong results sooner or later. A thread that waits for one which has returned, or which waits elsewhere, is an
// error here, where a GPU would hang or go on with garbage. What goes on beside the threads happens at a random time,
// as late as when nothing else can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <new>

namespace pyhue::emulation {

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr int kMaxThreads = 1024;

struct Index {
  unsigned x = 1, y = 1, z = 1;
  Index() = default;
  Index(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct Thread;

// Threads that wait for each other, and what each brought.
struct Meeting {
  int size = 0, arrived = 0;
  const void* kind = nullptr;
  void* arguments[kMaxThreads];
  Thread* waiting[kMaxThreads];  // in the order of coming
};

// A copy that cp.async started: it happens when the thread waits for its group, not earlier.
struct Copy {
  void* to;
  const void* from;
  int bytes, group;
};

struct Thread {
  Index index;
  int lane;
  Meeting *warp, *warpgroup, *block;
  std::deque<Copy> copies;
  int groups = 0;  // committed so far
};

// Shared memory whose size the launch gives, aligned as a GPU's.
class DynamicMemory {
 public:
  ~DynamicMemory() { resize(0); }
  void resize(size_t size) {
    if (begin_) ::operator delete(begin_, kAlignment);
    begin_ = size ? static_cast<unsigned char*>(::operator new(size, kAlignment)) : nullptr;
    size_ = size;
  }
  unsigned char* begin() const { return begin_; }
  unsigned char* end() const { return begin_ + size_; }

 private:
  static constexpr std::align_val_t kAlignment{1024};
  unsigned char* begin_ = nullptr;
  size_t size_ = 0;
};

extern Thread* current;
extern Index block_index, block_size, grid_size;
extern DynamicMemory dynamic_memory;  // of the block that runs

// Runs `body` once for each thread of each block, one block after the other, in a random order of blocks.
void run(Index grid, Index block, size_t dynamic_bytes, void (*body)(void*), void* argument);

// Waits for the rest of the warp or block; the last one to come calls `action` with what all brought.
void meet(Meeting& meeting, int place, const void* kind, void* argument, void (*action)(void** arguments, int size));

// meet() of the warp, where each lane brings `Arguments` and `Action` fills in the answers.
template <class Arguments, class Action>
void meet_warp(Arguments& arguments, Action) {
  static const char kind = 0;
  meet(*current->warp, current->lane, &kind, &arguments,
       [](void** all, int) { Action{}([&](int lane) -> Arguments& { return *static_cast<Arguments*>(all[lane]); }); });
}

// Waits until ready(argument) is true.
void wait_until(bool (*ready)(const void*), const void* argument);

// Does something that goes on beside the threads, such as a copy, some time later.
void do_later(std::function<void()> action);

}  // namespace pyhue::emulation
