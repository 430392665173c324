#include "core/pack.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "core/bound.h"

namespace pyhue {
namespace {

// Of up to 2^51 in size, ties to even; a vector operation everywhere, which std::nearbyint is not.
double nearest_integer(double value) { return value + 0x1.8p52 - 0x1.8p52; }

// Squared norms of a vector's first coordinates: as they are, weighted, and of what rounding changed in them.
struct Squares {
  double exact = 0, weighted = 0, error = 0;
};

// Rounds one vector, stage by stage.
class Rounding {
 public:
  Rounding(const Layout& layout, const std::vector<double>& squared_weights, std::vector<uint8_t>& bytes)
      : layout_(layout), squared_weights_(squared_weights), bytes_(bytes) {}

  void begin(const double* values, double squared_norm, double eta) {
    values_ = values;
    squared_norm_ = squared_norm;
    eta_ = eta;
    huge_ = is_huge(squared_norm);
    done_ = 0;
    squares_ = {};
  }

  // Bytes and squares of the coordinates up to `end`.
  void advance(int end) {
    if (huge_) {
      std::fill(bytes_.begin() + done_, bytes_.begin() + end, uint8_t{128});
    } else {
      Squares sums = squares_;
      for (int i = done_; i < end; ++i) {
        const double value = values_[i], step = layout_.steps[i];
        const double steps = nearest_integer(std::min(127.0, std::max(-127.0, value / step)));
        const double error = value - steps * step;
        bytes_[static_cast<size_t>(i)] = static_cast<uint8_t>(static_cast<int>(steps) + 128);
        sums.exact += value * value;
        sums.weighted += value * value * squared_weights_[static_cast<size_t>(i)];
        sums.error += error * error;
      }
      squares_ = sums;
    }
    done_ = end;
  }

  // The terms of the stage that ends here, `stride` apart.
  void write_terms(float* terms, int64_t stride) const {
    terms[kNorm * stride] = huge_ ? std::numeric_limits<float>::infinity() : error_term(squares_.weighted);
    terms[kError * stride] = error_term(squares_.error);
    terms[kTail * stride] = huge_ ? 0 : round_up(tail_norm(squared_norm_, squares_.exact, eta_));
  }

 private:
  const Layout& layout_;
  const std::vector<double>& squared_weights_;
  std::vector<uint8_t>& bytes_;
  const double* values_ = nullptr;
  double squared_norm_ = 0, eta_ = 0;
  bool huge_ = false;
  int done_ = 0;
  Squares squares_;
};

}  // namespace

double tail_norm(double squared_norm, double squared_part, double orthogonality_error) {
  const double squared = squared_norm * kUp * (1 + orthogonality_error) - squared_part / kUp;
  return squared > 0 ? std::sqrt(squared) * kUp : 0;
}

double weight(double step, double largest_step) { return std::min(1e3, std::pow(largest_step / step, 1.75)); }

void pack(const Layout& layout, const Coordinates& c, int64_t first, const FilterArrays& to, const Executor& executor) {
  constexpr int64_t kRows = 256;
  const int dims = layout.dims(), block_dims = layout.block_dims();
  const double largest = *std::max_element(layout.steps, layout.steps + dims);
  std::vector<double> squared_weights;
  for (int i = 0; i < dims; ++i) {
    const double w = weight(layout.steps[i], largest);
    squared_weights.push_back(w * w);
  }
  for_each_chunk(executor, (c.count + kRows - 1) / kRows, [&](int64_t chunk, int) {
    const int64_t end = chunk * kRows + kRows < c.count ? chunk * kRows + kRows : c.count;
    std::vector<uint8_t> bytes(static_cast<size_t>(layout.padded_dims()), uint8_t{128});
    std::vector<uint8_t> block_quads = bytes;  // without the coordinates of rows
    Rounding rounding(layout, squared_weights, bytes);
    for (int64_t row = chunk * kRows; row < end; ++row) {
      const int64_t position = first + row, block = position / kBlock, lane = position % kBlock;
      float* terms = to.bounds + block * layout.block_terms() * kBlock + lane;
      terms[0] = half_norm_term(c.squared_norms[row]);
      rounding.begin(c.values + row * dims, c.squared_norms[row], c.orthogonality_error);
      for_each_stage(
          layout,
          [&](int stage) {
            rounding.advance(layout.block_ends[stage]);
            rounding.write_terms(terms + (1 + kStageTerms * stage) * kBlock, kBlock);
          },
          [&](int stage) {
            rounding.advance(layout.row_ends[stage]);
            rounding.write_terms(to.row_bounds + (position * layout.row_stages + stage) * kStageTerms, 1);
          });
      std::copy(bytes.begin(), bytes.begin() + block_dims, block_quads.begin());
      uint8_t* block_bytes = to.blocks + block * layout.block_bytes() + 4 * lane;
      for (int i = 0; i < layout.padded_block_dims(); i += 4) {
        std::memcpy(block_bytes + int64_t{i} * kBlock, block_quads.data() + i, 4);
      }
      const auto row_bytes = bytes.begin() + layout.row_begin;
      std::copy(row_bytes, row_bytes + layout.padded_row_dims(), to.rows + position * layout.padded_row_dims());
    }
  });
}

}  // namespace pyhue
