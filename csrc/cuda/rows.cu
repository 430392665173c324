#include <limits>

#include "cuda/device.h"
#include "cuda/rows.h"

namespace pyhue::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSums = 8;  // partial sums of core/rows.cpp

// A warp for each row; lane j holds partial sum j. Every operation is rounded, in the order of core/rows.cpp.
template <class Value>
__global__ void __launch_bounds__(kThreads)
    store_row(const Value* from, int64_t count, int dim, bool normalize, float* to) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= count) return;
  const Value* values = from + row * dim;
  double largest = 0;
  int bad = 0;
  for (int i = lane; i < dim; i += 32) {
    const double size = fabs(static_cast<double>(values[i]));
    bad |= !(size <= (normalize ? std::numeric_limits<Value>::max() : std::numeric_limits<float>::max()));
    largest = size > largest ? size : largest;
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    bad |= __shfl_xor_sync(kFullMask, bad, mask);
    const double other = __shfl_xor_sync(kFullMask, largest, mask);
    largest = other > largest ? other : largest;
  }
  const double scale = sizeof(Value) == 4 || largest == 0 ? 1 : largest;
  double sum = 0;
  for (int i = lane; lane < kSums && i < dim; i += kSums) {
    const double scaled = __ddiv_rn(values[i], scale);
    sum = __dadd_rn(sum, __dmul_rn(scaled, scaled));
  }
  sum = __dadd_rn(sum, __shfl_down_sync(kFullMask, sum, 4));
  sum = __dadd_rn(sum, __shfl_down_sync(kFullMask, sum, 2));
  sum = __dadd_rn(sum, __shfl_down_sync(kFullMask, sum, 1));
  sum = __shfl_sync(kFullMask, sum, 0);
  const double length = normalize && largest > 0 ? __dsqrt_rn(sum) : 1;
  for (int i = lane; i < dim; i += 32) {
    const double value = normalize ? __ddiv_rn(__ddiv_rn(values[i], scale), length) : static_cast<double>(values[i]);
    to[row * dim + i] = bad ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(value);
  }
}

}  // namespace

template <class Value>
void store_rows(const Value* from, int64_t count, int dim, bool normalize, float* to, cudaStream_t stream) {
  if (count == 0) return;
  constexpr int kRows = kThreads / 32;
  launch(store_row<Value>, dim3(static_cast<unsigned>((count + kRows - 1) / kRows)), dim3(kThreads), 0, stream, from,
         count, dim, normalize, to);
}

template void store_rows(const float*, int64_t, int, bool, float*, cudaStream_t);
template void store_rows(const double*, int64_t, int, bool, float*, cudaStream_t);

}  // namespace pyhue::cuda
