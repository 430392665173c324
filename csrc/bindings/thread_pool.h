// Threads for the NumPy bindings. One pool a process; a forked child makes its own.
#pragma once

#include "core/executor.h"

namespace pyhue {

int num_threads();
void set_num_threads(int count);  // at least 1

// An executor on the pool. `interrupted`, or null, is asked now and then in the calling thread.
Executor pool_executor(void* context, bool (*interrupted)(void* context));

}  // namespace pyhue
