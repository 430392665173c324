// Threads for the NumPy bindings. One pool a process; a forked child makes its own.
#pragma once

#include "core/executor.h"

namespace pyhue {

// How many workers an executor has: by default as many as the process may use CPUs, bounded by OMP_NUM_THREADS.
int num_threads();
void set_num_threads(int count);  // at least 1; from here on limits count no more
void limit_threads(int count);    // at least 1: another default

// Executor::least_products; by default 2^25, measured. Tests set 0, so that small searches have threads too.
int64_t least_products();
void set_least_products(int64_t count);

// An executor on the pool. `interrupted`, or null, is asked now and then in the calling thread.
Executor pool_executor(void* context, bool (*interrupted)(void* context));

}  // namespace pyhue
