#include "core/rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/bfloat16.h"

namespace pyhue {
namespace {

constexpr int64_t kRows = 256;
constexpr float kRoundsToInfinity = 0x1.FFp127f;  // halfway from the largest bfloat16 to the next

// The Euclidean norm divided by `scale`, in eight partial sums.
template <class Value>
double norm(const Value* row, int dim, double scale) {
  double sums[8] = {};
  int i = 0;
  for (; i + 8 <= dim; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += (row[i + j] / scale) * (row[i + j] / scale);
  }
  for (int j = 0; i < dim; ++i, ++j) sums[j] += (row[i] / scale) * (row[i] / scale);
  return std::sqrt(((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])));
}

// Whether every value is finite and, if `fits`, becomes a finite Stored.
template <class Stored, class Value>
bool valid(const Value* row, int dim, bool fits, Value& largest) {
  largest = 0;
  bool numbers = true;
  for (int i = 0; i < dim; ++i) {
    numbers = numbers && row[i] == row[i];
    largest = std::max<Value>(largest, std::fabs(row[i]));
  }
  if (!fits) return numbers && largest <= std::numeric_limits<Value>::max();
  if (!(numbers && largest <= std::numeric_limits<float>::max())) return false;
  return sizeof(Stored) == 4 || static_cast<float>(largest) < kRoundsToInfinity;
}

void store(float value, float& to) { to = value; }
void store(float value, uint16_t& to) { to = to_bfloat16(value); }

template <class Value>
Length length_of(const Value* row, int dim, Value largest) {
  const double scale = sizeof(Value) == 4 || largest == 0 ? 1 : static_cast<double>(largest);
  return {scale, largest > 0 ? norm(row, dim, scale) : 0};
}

}  // namespace

template <class Value>
Length length_of(const Value* row, int dim) {
  Value largest = 0;
  for (int i = 0; i < dim; ++i) largest = std::max<Value>(largest, std::fabs(row[i]));
  return length_of(row, dim, largest);
}
template Length length_of(const float*, int);
template Length length_of(const double*, int);

template <class Value, class Stored>
int64_t store_rows(const Value* from, int64_t count, int dim, bool normalize, Stored* to, bool* zero,
                   const Executor& executor) {
  std::atomic<int64_t> bad{count};
  for_each_chunk(executor, (count + kRows - 1) / kRows, [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRows; r < std::min(count, (chunk + 1) * kRows); ++r) {
      const Value* row = from + r * dim;
      Value largest;
      if (!valid<Stored>(row, dim, !normalize, largest)) {
        int64_t first = bad.load();
        while (r < first && !bad.compare_exchange_weak(first, r)) {
        }
        continue;
      }
      zero[r] = largest == 0;
      const Length length = normalize ? length_of(row, dim, largest) : Length{1, 1};
      for (int i = 0; i < dim; ++i) {
        store(static_cast<float>(length.norm > 0 ? row[i] / length.scale / length.norm : row[i]), to[r * dim + i]);
      }
    }
  });
  return bad.load() == count ? -1 : bad.load();
}

template int64_t store_rows(const float*, int64_t, int, bool, float*, bool*, const Executor&);
template int64_t store_rows(const double*, int64_t, int, bool, float*, bool*, const Executor&);
template int64_t store_rows(const float*, int64_t, int, bool, uint16_t*, bool*, const Executor&);
template int64_t store_rows(const double*, int64_t, int, bool, uint16_t*, bool*, const Executor&);

}  // namespace pyhue
