// Instruction-set levels: which kernels this build has, which this CPU runs, which one is in use.
#pragma once

#include <string>
#include <vector>

namespace pyhue {

struct Kernels;

// The kernels in use: the highest level that the CPU runs, unless set_isa() chose a lower one.
const Kernels& kernels();

// Name of the level in use: as PYHUE_ISA names it.
std::string isa();

// Names of the levels that this build has and this CPU runs, lowest first.
std::vector<std::string> available_isas();

// Use the level of that name; throws std::invalid_argument when it is unknown or unavailable.
// Not to be called while kernels run in another thread.
void set_isa(const std::string& name);

// Applies the environment variable PYHUE_ISA when it is set and not empty.
void set_isa_from_environment();

}  // namespace pyhue
