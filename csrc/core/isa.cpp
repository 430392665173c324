#include "core/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

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
#if defined(__clang__)  // which knows no names of levels; no CPU has these without the rest
bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool runs_avx2() { return __builtin_cpu_supports("x86-64-v3"); }
bool runs_avx512() { return __builtin_cpu_supports("x86-64-v4"); }
#endif
bool runs_avxvnni() {
  unsigned a, b, c, d;
  return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVXVNNI);
}
bool runs_avx512vnni() { return runs_avx512() && __builtin_cpu_supports("avx512vnni"); }
#else
#define PYHUE_X86(pointer) nullptr
bool runs_avx2() { return false; }
bool runs_avxvnni() { return false; }
bool runs_avx512() { return false; }
bool runs_avx512vnni() { return false; }
#endif

#if defined(PYHUE_HAS_AVXVNNI)  // left out where sanitizers look
#define PYHUE_VNNI(pointer) pointer
#else
#define PYHUE_VNNI(pointer) nullptr
#endif

#if defined(PYHUE_HAS_NEON)
#define PYHUE_ARM(pointer) pointer
#if defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool runs_neondotprod() { return has("hw.optional.arm.FEAT_DotProd"); }
bool runs_neoni8mm() { return runs_neondotprod() && has("hw.optional.arm.FEAT_I8MM"); }
#else  // as Linux's asm/hwcap.h numbers them; older ones do not know both
bool runs_neondotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }
bool runs_neoni8mm() { return runs_neondotprod() && (getauxval(AT_HWCAP2) >> 13 & 1); }
#endif
#else
#define PYHUE_ARM(pointer) nullptr
bool runs_neondotprod() { return false; }
bool runs_neoni8mm() { return false; }
#endif

const Level kLevels[] = {
    {"generic", &generic::table, [] { return true; }},
    {"avx2", PYHUE_X86(&avx2::table), runs_avx2},
    {"avxvnni", PYHUE_VNNI(&avxvnni::table), runs_avxvnni},
    {"avx512", PYHUE_X86(&avx512::table), runs_avx512},
    {"avx512vnni", PYHUE_VNNI(&avx512vnni::table), runs_avx512vnni},
    {"neon", PYHUE_ARM(&neon::table), [] { return true; }},
    {"neondotprod", PYHUE_ARM(&neondotprod::table), runs_neondotprod},
    {"neoni8mm", PYHUE_ARM(&neoni8mm::table), runs_neoni8mm},
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
