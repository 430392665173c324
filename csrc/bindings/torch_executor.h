// torch's threads for the kernels.
#pragma once

#include "core/executor.h"

namespace pyhue {

Executor torch_executor();

}  // namespace pyhue
