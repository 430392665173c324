#include "core/pack.h"

#include "core/bound.h"
#include "core/screen_kernel_types.h"

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
      round(values, layout.block_dims, layout.padded_block_dims(), huge,
            to.blocks + block * layout.padded_block_dims() * kBlock + lane, kBlock, squares);
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
