#include "core/pack.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "core/bound.h"
#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

double sum(const double (&v)[kSquares]) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

}  // namespace

double tail_norm(double squared_norm, double squared_part, double error) {
  const double squared = squared_norm * kUp * (1 + error) - squared_part / kUp;
  return squared > 0 ? std::sqrt(squared) * kUp : 0;
}

double weight(double step, double largest_step) { return std::min(1e3, std::pow(largest_step / step, 1.75)); }

Packer::Packer(const Layout& layout, double error, const FilterArrays& to)
    : layout_(layout),
      error_(error),
      to_(to),
      bytes_(static_cast<size_t>(layout.padded_dims()), uint8_t{128}),
      block_bytes_(bytes_) {
  const double largest = *std::max_element(layout.steps, layout.steps + layout.dims());
  for (int i = 0; i < layout.dims(); ++i) {
    const double w = weight(layout.steps[i], largest);
    squared_weights_.push_back(w * w);
    inverses_.push_back(1 / layout.steps[i]);
  }
}

void Packer::pack(int64_t position, const double* values, double squared_norm, double squared_length) {
  const int64_t block = position / kBlock, lane = position % kBlock;
  const bool huge = is_huge(squared_norm);
  const Steps steps = {layout_.steps, inverses_.data(), squared_weights_.data()};
  Squares squares = {};
  int done = 0;
  // Bytes and squares of the coordinates up to `end`, and the terms of the stage that ends there, `stride` apart.
  const auto advance = [&](int end, float* terms, int64_t stride) {
    if (huge) {
      std::fill(bytes_.begin() + done, bytes_.begin() + end, uint8_t{128});
    } else {
      kernels().round_coordinates(values, steps, done, end, bytes_.data(), &squares);
    }
    done = end;
    terms[kNorm * stride] = huge ? std::numeric_limits<float>::infinity() : error_term(sum(squares.weighted));
    terms[kError * stride] = error_term(sum(squares.error));
    terms[kTail * stride] = huge ? 0 : round_up(tail_norm(squared_length, sum(squares.exact), error_));
  };
  float* terms = to_.bounds + block * layout_.block_terms() * kBlock + lane;
  terms[0] = half_norm_term(squared_norm);
  for_each_stage(
      layout_,
      [&](int stage) { advance(layout_.block_ends[stage], terms + (1 + kStageTerms * stage) * kBlock, kBlock); },
      [&](int stage) {
        advance(layout_.row_ends[stage], to_.row_bounds + (position * layout_.row_stages + stage) * kStageTerms, 1);
      });
  std::copy(bytes_.begin(), bytes_.begin() + layout_.block_dims(), block_bytes_.begin());  // the rest stays zeros
  uint8_t* quads = to_.blocks + block * layout_.block_bytes() + 4 * lane;
  const uint8_t* from = block_bytes_.data();
  for (const uint8_t* end = from + layout_.padded_block_dims(); from < end; from += 4, quads += 4 * kBlock) {
    std::memcpy(quads, from, 4);
  }
  const auto row = bytes_.begin() + layout_.row_begin;
  std::copy(row, row + layout_.padded_row_dims(), to_.rows + position * layout_.padded_row_dims());
}

void pack(const Layout& layout, const Coordinates& c, int64_t first, const FilterArrays& to, const Executor& executor) {
  constexpr int64_t kRows = 256;
  for_each_chunk(executor, (c.count + kRows - 1) / kRows, [&](int64_t chunk, int) {
    Packer packer(layout, c.error, to);
    for (int64_t row = chunk * kRows; row < std::min(c.count, (chunk + 1) * kRows); ++row) {
      const double norm = c.squared_norms[row];
      packer.pack(first + row, c.values + row * layout.dims(), norm, norm);
    }
  });
}

}  // namespace pyhue
