#include "core/pack.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/search_kernel_types.h"

namespace pyhue {
namespace {

// Norms above this are treated as infinite: products of two stay below the largest float32.
constexpr double kLargestNorm = 1e18;
constexpr double kSmallestNormal = 1.1754943508222875e-38;
// Widens a double result by more than the rounding of the handful of operations that gave it, the sums of
// up to 4,096 squares included.
constexpr double kUp = 1 + 1e-11;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float round_up(double value) {
  const float rounded = static_cast<float>(value);
  return rounded < value ? std::nextafterf(rounded, kInfinity) : rounded;
}

// To nearest even. What bfloat16 arithmetic would flush to zero becomes zero here, where it is counted.
uint16_t to_bfloat16(double value) {
  const float single = static_cast<float>(value);
  if (std::fabs(single) < kSmallestNormal) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(single);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double to_double(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

struct Norms {
  bool huge;
  double full, rounded, error, tail;  // upper bounds, but for rounding of the last float
};

// Rounds one prefix into out[0], out[stride], ... in pairs, and measures it.
Norms round_prefix(const Coordinates& c, int64_t row, uint16_t* out, int64_t pair_stride) {
  const double* prefix = c.prefix + row * c.dims;
  const double squared_norm = c.squared_norms[row];
  const bool huge = !(squared_norm <= kLargestNorm * kLargestNorm);
  double exact2 = 0, rounded2 = 0, error2 = 0;
  for (int i = 0; i < padded(c.dims); ++i) {
    const double value = i < c.dims && !huge ? prefix[i] : 0;
    const uint16_t rounded = to_bfloat16(value);
    const double back = to_double(rounded);
    out[i / 2 * pair_stride + i % 2] = rounded;
    exact2 += value * value;
    rounded2 += back * back;
    error2 += (value - back) * (value - back);
  }
  if (huge) return {true, 0, 0, 0, 0};
  const double tail2 = squared_norm * kUp * (1 + c.orthogonality_error) - exact2 / kUp;
  return {false, std::sqrt(squared_norm) * kUp, std::sqrt(rounded2) * kUp, std::sqrt(error2) * kUp,
          tail2 > 0 ? std::sqrt(tail2) * kUp : 0};
}

}  // namespace

void pack_memory(const Coordinates& c, int64_t first, uint16_t* blocks, float* bounds, const Executor& executor) {
  const int64_t block_size = int64_t{padded(c.dims)} * kBlock;
  constexpr int64_t kRows = 512;
  for_each_chunk(executor, (c.count + kRows - 1) / kRows, [&](int64_t chunk, int) {
    const int64_t end = chunk * kRows + kRows < c.count ? chunk * kRows + kRows : c.count;
    for (int64_t row = chunk * kRows; row < end; ++row) {
      const int64_t block = (first + row) / kBlock, lane = (first + row) % kBlock;
      const Norms norms = round_prefix(c, row, blocks + block * block_size + 2 * lane, 2 * kBlock);
      float* terms = bounds + block * kBoundTerms * kBlock + lane;
      // (1 - 2^-21): the bound's own float32 operations, see pack_queries.
      const double half = norms.huge ? 0 : c.squared_norms[row] / 2 * (1 - std::ldexp(1, -21));
      terms[kHalfNorm * kBlock] = -round_up(-half);
      terms[kNorm * kBlock] = norms.huge ? kInfinity : round_up(norms.full);
      terms[kError * kBlock] = round_up(norms.error);
      terms[kTail * kBlock] = round_up(norms.tail);
    }
  });
}

void pack_queries(const Coordinates& c, uint16_t* prefixes, PackedQuery* packed) {
  // The kernel's dot product rounds each of `dims` products and sums at most twice (vdpbf16ps adds a pair
  // in two steps): |error| <= 2 dims 2^-24 |u| |v|, and |u| |v| <= 1.01 |z_x| |z_q|. Adding up the bound
  // takes four more roundings of terms that sum to less than 5 |z_x| |z_q| + half_norm: 2^-21 of each.
  const double rounding = 1.02 * std::ldexp(c.dims + 16.0, -23) + std::ldexp(1, -20);
  for (int64_t row = 0; row < c.count; ++row) {
    const Norms norms = round_prefix(c, row, prefixes + row * padded(c.dims), 2);
    PackedQuery& query = packed[row];
    if (norms.huge) {
      query = {0, kInfinity, 0, 0};
      continue;
    }
    const double eta = c.orthogonality_error;
    query.squared_norm = c.squared_norms[row];
    query.norm_factor = round_up(norms.error * (1 + eta) + (rounding + eta) * norms.full);
    query.error_factor = round_up(norms.rounded);
    query.tail_factor = round_up(norms.tail);
  }
}

}  // namespace pyhue
