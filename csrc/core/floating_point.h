// The caller's floating-point mode is not ours: results are those of round-to-nearest with subnormal numbers, also
// where a thread has set flush-to-zero.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace pyhue {

// Sets the standard mode of the thread for as long as it lives.
class StandardArithmetic {
 public:
#if defined(__SSE2__)
  StandardArithmetic() : before_(_mm_getcsr()) {
    if (differs()) _mm_setcsr(kStandard);
  }
  ~StandardArithmetic() {
    if (differs()) _mm_setcsr(before_);
  }
#elif defined(__aarch64__)
  StandardArithmetic() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    if (before_ != kStandard) asm volatile("msr fpcr, %0" ::"r"(kStandard));
  }
  ~StandardArithmetic() {
    if (before_ != kStandard) asm volatile("msr fpcr, %0" ::"r"(before_));
  }
#else
  StandardArithmetic() = default;
#endif
  StandardArithmetic(const StandardArithmetic&) = delete;
  StandardArithmetic& operator=(const StandardArithmetic&) = delete;

 private:
#if defined(__SSE2__)
  static constexpr unsigned kStandard = 0x1f80;  // every exception masked, to nearest, nothing flushed
  bool differs() const { return (before_ & ~0x3fu) != kStandard; }  // the low bits tell what has happened so far
  unsigned before_;
#elif defined(__aarch64__)
  static constexpr uint64_t kStandard = 0;
  uint64_t before_;
#endif
};

}  // namespace pyhue
