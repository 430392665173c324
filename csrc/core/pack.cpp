#include "core/pack.h"

#include "core/bound.h"

namespace pyhue {
namespace {

// Squared norms of some coordinates and of what rounding changed in them.
struct Squares {
  double exact = 0, error = 0;
};

void round(const double* values, int count, int padded, bool huge, uint16_t* out, int64_t stride, Squares& squares) {
  for (int i = 0; i < padded; ++i) {
    const double value = i < count && !huge ? values[i] : 0;
    const uint16_t rounded = to_bfloat16(value);
    const double error = value - from_bfloat16(rounded);
    out[i * stride] = rounded;
    squares.exact += value * value;
    squares.error += error * error;
  }
}

// The same for bytes: values go to `out` (padded / 4, kBlock, 4).
void round_bytes(const double* values, const Layout& layout, bool huge, uint8_t* out, Squares& squares) {
  for (int i = 0; i < layout.padded_block_dims(); ++i) {
    const double value = i < layout.block_dims && !huge ? values[i] : 0;
    const double step = i < layout.block_dims ? layout.steps[i] : 1;
    const double steps = std::clamp(std::nearbyint(value / step), -127.0, 127.0);
    const double error = value - steps * step;
    out[i / 4 * 4 * kBlock + i % 4] = static_cast<uint8_t>(static_cast<int>(steps) + 128);
    squares.exact += value * value;
    squares.error += error * error;
  }
}

}  // namespace

double tail_norm(double squared_norm, double squared_part, double orthogonality_error) {
  const double squared = squared_norm * kUp * (1 + orthogonality_error) - squared_part / kUp;
  return squared > 0 ? std::sqrt(squared) * kUp : 0;
}

void pack(const Layout& layout, const Coordinates& c, int64_t first, const FilterArrays& to, const Executor& executor) {
  constexpr int64_t kRows = 256;
  const double eta = c.orthogonality_error;
  for_each_chunk(executor, (c.count + kRows - 1) / kRows, [&](int64_t chunk, int) {
    const int64_t end = chunk * kRows + kRows < c.count ? chunk * kRows + kRows : c.count;
    for (int64_t row = chunk * kRows; row < end; ++row) {
      const int64_t position = first + row, block = position / kBlock, lane = position % kBlock;
      const double* values = c.values + row * layout.dims();
      const double squared_norm = c.squared_norms[row];
      const bool huge = is_huge(squared_norm);
      Squares squares;
      char* blocks = static_cast<char*>(to.blocks) + block * layout.block_bytes();
      if (layout.steps) {
        round_bytes(values, layout, huge, reinterpret_cast<uint8_t*>(blocks) + 4 * lane, squares);
      } else {
        round(values, layout.block_dims, layout.padded_block_dims(), huge, reinterpret_cast<uint16_t*>(blocks) + lane,
              kBlock, squares);
      }
      float* terms = to.bounds + block * kBoundTerms * kBlock + lane;
      terms[kHalfNorm * kBlock] = half_norm_term(squared_norm);
      terms[kNorm * kBlock] = norm_term(squared_norm, eta);
      terms[kError * kBlock] = error_term(squares.error);
      terms[kTail * kBlock] = huge ? 0 : round_up(tail_norm(squared_norm, squares.exact, eta));
      if (layout.row_dims == 0) continue;
      for (int part = 0; part < kRowParts; ++part) {
        const int begin = layout.row_part(part), end = layout.row_part(part + 1);
        round(values + layout.block_dims + begin, std::max(0, layout.row_dims - begin), end - begin, huge,
              to.rows + position * layout.padded_row_dims() + begin, 1, squares);
        float* bound = to.row_bounds + kRowTerms * (position * kRowParts + part);
        bound[0] = error_term(squares.error);
        bound[1] = huge ? 0 : round_up(tail_norm(squared_norm, squares.exact, eta));
      }
    }
  });
}

}  // namespace pyhue
