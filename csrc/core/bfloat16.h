// bfloat16 and rounding to the safe side.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.h"

namespace pyhue {

// The smallest float not below `value`.
PYHUE_HOST_DEVICE inline float round_up(double value) {
  const float rounded = static_cast<float>(value);
  return rounded < value ? nextafterf(rounded, std::numeric_limits<float>::infinity()) : rounded;
}

// To nearest even. What bfloat16 arithmetic would flush to zero becomes zero here, where it is counted.
PYHUE_HOST_DEVICE inline uint16_t to_bfloat16(double value) {
  const float single = static_cast<float>(value);
  if (std::fabs(single) < std::numeric_limits<float>::min()) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(single);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

PYHUE_HOST_DEVICE inline float from_bfloat16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

}  // namespace pyhue
