#include "bindings/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace pyhue {
namespace {

using Body = void (*)(void* argument, int worker);

int usable_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int default_threads() {
  const char* bound = std::getenv("OMP_NUM_THREADS");
  const int wanted = bound ? std::atoi(bound) : 0;
  return wanted > 0 ? std::min(wanted, usable_cpus()) : usable_cpus();
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count{default_threads()};
  return count;
}

std::atomic<bool> chosen{false};  // by set_num_threads

std::atomic<int64_t> least{int64_t{1} << 25};

// Runs one job at a time; a second caller meanwhile does its job alone, in its own thread.
class Pool {
 public:
  void run(int workers, Body body, void* argument) {
    if (!job_.try_lock()) {
      body(argument, 0);
      return;
    }
    std::lock_guard job(job_, std::adopt_lock);
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(threads_.size()) < workers - 1) {
        const int worker = static_cast<int>(threads_.size()) + 1;
        threads_.emplace_back([this, worker, seen = generation_] { serve(worker, seen); });
        caller_cpu_ = -1;
      }
#if defined(__linux__)
      keep_off(sched_getcpu());
#endif
      body_ = body;
      argument_ = argument;
      workers_ = workers;
      running_ = static_cast<int>(threads_.size());
      ++generation_;
    }
    start_.notify_all();
    body(argument, 0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
#if defined(__linux__)
  // Linux may wake a thread on the CPU of the thread that wakes it, and leave it waiting there for milliseconds
  // while another CPU idles. So workers run on the other CPUs that the caller may use.
  void keep_off(int cpu) {
    cpu_set_t cpus;
    if (cpu == caller_cpu_ || sched_getaffinity(0, sizeof cpus, &cpus) != 0) return;
    caller_cpu_ = cpu;
    if (CPU_COUNT(&cpus) > 1) CPU_CLR(static_cast<size_t>(cpu), &cpus);
    for (std::thread& thread : threads_) pthread_setaffinity_np(thread.native_handle(), sizeof cpus, &cpus);
  }
#endif

  void serve(int worker, int64_t seen) {
    std::unique_lock lock(mutex_);
    for (;;) {
      start_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (worker < workers_) {
        lock.unlock();
        body_(argument_, worker);
        lock.lock();
      }
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex job_, mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> threads_;
  Body body_ = nullptr;
  void* argument_ = nullptr;
  int workers_ = 0, running_ = 0;
  int64_t generation_ = 0;
  int caller_cpu_ = -1;  // that the workers keep off
};

// Threads do not survive fork, so a child gets a new pool. Pools are never destroyed: their threads wait
// until the process ends.
Pool& pool() {
  static std::mutex mutex;
  static std::atomic<Pool*> current{nullptr};
  static std::atomic<pid_t> owner{0};
  if (owner.load() != getpid()) {
    std::lock_guard lock(mutex);
    if (owner.load() != getpid()) {
      current.store(new Pool);
      owner.store(getpid());
    }
  }
  return *current.load();
}

}  // namespace

int num_threads() { return thread_count().load(); }

void set_num_threads(int count) {
  chosen.store(true);
  thread_count().store(count);
}

void limit_threads(int count) {
  if (!chosen.load()) thread_count().store(count);
}

int64_t least_products() { return least.load(); }

void set_least_products(int64_t count) { least.store(count); }

Executor pool_executor(void* context, bool (*interrupted)(void*)) {
  auto run = [](void*, int workers, Body body, void* argument) { pool().run(workers, body, argument); };
  return {num_threads(), context, run, interrupted, least_products()};
}

}  // namespace pyhue
