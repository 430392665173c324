#include "core/isa.h"

#if defined(PYHUE_HAS_AVX2)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "core/kernels.h"

namespace pyhue {
namespace {

struct Level {
  const char* name;
  const Kernels* kernels;  // null: not in this build
  bool (*runs_here)();
};

#if defined(PYHUE_HAS_AVX2)
#define PYHUE_X86(pointer) pointer
bool runs_avx2() { return __builtin_cpu_supports("x86-64-v3"); }
bool runs_avxvnni() {
  unsigned a, b, c, d;
  return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVXVNNI);
}
bool runs_avx512() { return __builtin_cpu_supports("x86-64-v4"); }
bool runs_avx512vnni() { return runs_avx512() && __builtin_cpu_supports("avx512vnni"); }
#else
#define PYHUE_X86(pointer) nullptr
bool runs_avx2() { return false; }
bool runs_avxvnni() { return false; }
bool runs_avx512() { return false; }
bool runs_avx512vnni() { return false; }
#endif

const Level kLevels[] = {
    {"generic", &generic::table, [] { return true; }},
    {"avx2", PYHUE_X86(&avx2::table), runs_avx2},
    {"avxvnni", PYHUE_X86(&avxvnni::table), runs_avxvnni},
    {"avx512", PYHUE_X86(&avx512::table), runs_avx512},
    {"avx512vnni", PYHUE_X86(&avx512vnni::table), runs_avx512vnni},
};

const Level* highest() {
  const Level* best = &kLevels[0];
  for (const Level& level : kLevels) {
    if (level.kernels && level.runs_here()) best = &level;
  }
  return best;
}

std::atomic<const Level*>& current() {
  static std::atomic<const Level*> level{highest()};
  return level;
}

}  // namespace

const Kernels& kernels() { return *current().load()->kernels; }

std::string isa() { return current().load()->name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) {
    if (level.kernels && level.runs_here()) names.emplace_back(level.name);
  }
  return names;
}

void set_isa(const std::string& name) {
  for (const Level& level : kLevels) {
    if (name != level.name) continue;
    if (!level.kernels || !level.runs_here()) {
      throw std::invalid_argument("PYHUE_ISA=" + name + " is not available on this CPU");
    }
    current().store(&level);
    return;
  }
  std::string names;
  for (const Level& level : kLevels) names += (names.empty() ? "" : ", ") + std::string(level.name);
  throw std::invalid_argument("PYHUE_ISA=" + name + " is not one of " + names);
}

void set_isa_from_environment() {
  const char* name = std::getenv("PYHUE_ISA");
  if (name && *name) set_isa(name);
}

}  // namespace pyhue
