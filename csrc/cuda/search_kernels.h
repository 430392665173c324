// The search kernels but the screen; search.h says how they work together. Included by search.cu only.
#pragma once

#include <limits>

#include "core/bound.h"
#include "cuda/device.h"
#include "cuda/search.h"
#include "cuda/search_plan.h"

namespace pyhue::cuda {
namespace {

// What the bound takes of a query. One that is `ignored`, not 0, gets no candidates: it fills a tile or is not finite.
struct alignas(16) ScreenQuery {
  float norm_factor, error_factor, threshold, ignored;
};

// A neighbour as one number: by distance, ties by index. Distances are not negative.
using Key = unsigned long long;
constexpr Key kNoKey = ~Key{0};

__device__ inline Key key_of(float distance, int64_t index) {
  return Key{std::bit_cast<uint32_t>(distance)} << 32 | static_cast<uint32_t>(index);
}
__device__ inline float distance_of(Key key) { return std::bit_cast<float>(static_cast<uint32_t>(key >> 32)); }

// A Search as the kernels take it; arrays as in Scratch.
struct Pass {
  const float* queries;
  const double* center;
  int count;   // queries
  int padded;  // of them with those that fill the last tile
  int dim, slabs;
  int k, best_length, list_length, sort_length;
  float radius;
  Chosen chosen;
  uint16_t* coordinates;
  ScreenQuery* bounds;
  double* squared_norms;
  Key* best;
  Key* lists;
  int* counts;     // candidates
  int* rescanned;  // those of a list that overflowed, found again without the screen
};

__device__ inline double sum_warp(double value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullMask, value, mask);
  return value;
}

// The rounding of a dot product on tensor cores, relative to |z_q| |z_x|. They add a block of at least 4 products and
// the sum so far, each cut off at 23 bits or more below the largest (Fasi, Higham, Mikaitis, Pranesh, "Numerical
// behavior of NVIDIA tensor cores", 2021, for V100 and A100; Khattak, Mikaitis, arXiv 2512.07004, also for H100): at
// most (4 + 1 + 1) / 4 dims 2^-23; taken twice. The rest as in tiles.cpp.
__device__ inline double tensor_core_rounding(int dims) { return 1.02 * (3 * dims + 64) * 0x1p-23 + 0x1p-19; }

// One warp for each query: its coordinates and the terms of its bound; empties its lists.
__global__ void __launch_bounds__(kThreads) prepare(Pass pass) {
  const int query = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim = pass.dim;
  if (query >= pass.padded) return;
  const bool real = query < pass.count;
  const float* values = pass.queries + static_cast<int64_t>(query) * dim;
  double exact = 0, rounded = 0, error = 0;
  for (int i = lane; i < dim; i += 32) {
    const double value = real ? values[i] - pass.center[i] : 0;
    exact += value * value;
  }
  exact = sum_warp(exact);
  const bool huge = is_huge(exact);
  for (int i = lane; i < pass.slabs * kSlab; i += 32) {
    const double value = real && i < dim && !huge ? values[i] - pass.center[i] : 0;
    const uint16_t coordinate = to_bfloat16(value);
    pass.coordinates[packed_offset(query, i, pass.slabs)] = coordinate;
    const double back = from_bfloat16(coordinate);
    rounded += back * back;
    error += (value - back) * (value - back);
  }
  rounded = sum_warp(rounded);
  error = sum_warp(error);
  if (real) {
    for (int i = lane; i < pass.best_length; i += 32)
      pass.best[static_cast<int64_t>(query) * pass.best_length + i] = kNoKey;
  }
  if (lane > 0) return;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool finite = exact < std::numeric_limits<double>::infinity();  // squares of float32 fit
  if (real && finite) {
    pass.bounds[query] = {huge ? kInfinity : norm_factor(exact, error, tensor_core_rounding(dim), 0),
                          huge ? 0 : error_term(rounded), screening_threshold(exact, pass.radius, dim), 0};
  } else {
    pass.bounds[query] = {0, 0, kInfinity, 1};
  }
  pass.squared_norms[query] = exact;
  pass.counts[query] = 0;
  if (real) pass.rescanned[query] = 0;
}

__device__ inline float stored_value(const float* vector, int i) { return vector[i]; }
__device__ inline float stored_value(const uint16_t* vector, int i) { return from_bfloat16(vector[i]); }

// SquaredDistance of distance_kernel_types.h by a warp: lane j holds partial sum j. In lane 0.
template <class Stored>
__device__ inline float squared_distance(const float* query, const Stored* vector, int dim, int lane) {
  float sum = 0;
#pragma unroll 4
  for (int i = lane; i < dim; i += 32) {
    const float difference = __fsub_rn(query[i], stored_value(vector, i));
    sum = __fadd_rn(sum, __fmul_rn(difference, difference));
  }
  for (int half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_down_sync(kFullMask, sum, half));
  return sum;
}

// The vector at `position` of the piece, as a neighbour of the query. In lane 0.
__device__ inline Key neighbor(const Pass& pass, const Piece& piece, int query, int64_t position, int lane) {
  const float* values = pass.queries + static_cast<int64_t>(query) * pass.dim;
  const int64_t offset = position * pass.dim;
  const float distance =
      piece.bfloat16 ? squared_distance(values, static_cast<const uint16_t*>(piece.vectors) + offset, pass.dim, lane)
                     : squared_distance(values, static_cast<const float*>(piece.vectors) + offset, pass.dim, lane);
  return key_of(distance, piece.first + position);
}

// Makes new lists for the queries whose lists overflowed: of all vectors of the chunk begin .. end-1 that may be found
// and are nearer than the k-th best. Shared by so many warps.
__device__ inline void rescan(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, int warp, int warps) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  bool any = false;  // mostly not
  for (int query = static_cast<int>(threadIdx.x); query < pass.count; query += kThreads) {
    any = any || pass.counts[query] > pass.list_length;
  }
  if (!__syncthreads_or(any)) return;
  for (int first = 0; first < pass.count; first += 32) {
    const bool overflowed = first + lane < pass.count && pass.counts[first + lane] > pass.list_length;
    for (unsigned left = __ballot_sync(kFullMask, overflowed); left != 0; left &= left - 1) {
      const int query = first + __ffs(static_cast<int>(left)) - 1;
      const Key worst = pass.best[static_cast<int64_t>(query) * pass.best_length + pass.k - 1];
      for (int64_t position = begin + warp; position < end; position += warps) {
        if (!pass.chosen(query, piece.first + position)) continue;
        const Key key = neighbor(pass, piece, query, position, lane);
        if (lane > 0 || key >= worst) continue;
        const int slot = atomicAdd(pass.rescanned + query, 1);
        if (slot < pass.list_length) pass.lists[static_cast<int64_t>(query) * pass.list_length + slot] = key;
      }
    }
  }
}

// Replaces the positions in a query's list by keys, a warp for each; `parts` blocks share a list. The blocks after
// these rescan.
__global__ void __launch_bounds__(kThreads) refine(Pass pass, Piece piece, int64_t begin, int64_t end, int parts) {
  const int block = static_cast<int>(blockIdx.x), query = block / parts;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (query >= pass.count) {
    const int before = parts * pass.count, others = static_cast<int>(gridDim.x) - before;
    return rescan(pass, piece, begin, end, (block - before) * kWarps + warp, others * kWarps);
  }
  const int count = pass.counts[query];
  if (count > pass.list_length) return;
  Key* list = pass.lists + static_cast<int64_t>(query) * pass.list_length;
  for (int i = block % parts * kWarps + warp; i < count; i += parts * kWarps) {
    const Key key = neighbor(pass, piece, query, static_cast<int64_t>(list[i]), lane);
    __syncwarp();  // every lane has read the position
    if (lane == 0) list[i] = key;
  }
}

// Ascending; length a power of two.
__device__ inline void sort_keys(Key* keys, int length) {
  for (int size = 2; size <= length; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int pair = static_cast<int>(threadIdx.x); pair < length / 2; pair += kThreads) {
        const int i = pair / stride * 2 * stride + pair % stride, j = i + stride;
        const bool ascending = (i & size) == 0;
        if ((keys[i] > keys[j]) == ascending) {
          const Key other = keys[i];
          keys[i] = keys[j];
          keys[j] = other;
        }
      }
    }
  }
  __syncthreads();
}

// One block for each query: merges the candidates of the piece's chunk begin .. end-1 with the k best so far, sets the
// threshold that the new k-th distance gives, and empties the list.
__global__ void __launch_bounds__(kThreads) merge(Pass pass, Piece piece, int64_t begin, int64_t end) {
  const int query = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int screened = pass.counts[query];
  if (screened == 0) return;
  const int count = screened > pass.list_length ? pass.rescanned[query] : screened;
  Key* keys = reinterpret_cast<Key*>(dynamic_shared());
  Key* best = pass.best + static_cast<int64_t>(query) * pass.best_length;
  const Key* list = pass.lists + static_cast<int64_t>(query) * pass.list_length;
  for (int i = thread; i < pass.best_length; i += kThreads) keys[i] = best[i];
  __syncthreads();
  const bool overflowed = count > pass.list_length;
  const int64_t total = overflowed ? end - begin : count;
  const int room = pass.sort_length - pass.best_length;
  for (int64_t done = 0; done < total; done += room) {
    const Key worst = keys[pass.k - 1];
    bool better = false;
    if (overflowed) {
      for (int i = thread / 32; i < room; i += kWarps) {
        const int64_t position = begin + done + i;
        const bool real = position < end && pass.chosen(query, piece.first + position);
        const Key key = real ? neighbor(pass, piece, query, position, thread % 32) : kNoKey;
        if (thread % 32 == 0) keys[pass.best_length + i] = key;
        better = better || (thread % 32 == 0 && key < worst);
      }
    } else {
      for (int i = thread; i < room; i += kThreads) {
        const Key key = done + i < total ? list[done + i] : kNoKey;
        keys[pass.best_length + i] = key;
        better = better || key < worst;
      }
    }
    if (__syncthreads_or(better)) sort_keys(keys, pass.sort_length);
  }
  for (int i = thread; i < pass.best_length; i += kThreads) best[i] = keys[i];
  if (thread > 0) return;
  pass.counts[query] = 0;
  pass.rescanned[query] = 0;
  const Key last = keys[pass.k - 1];
  if (last != kNoKey) {
    pass.bounds[query].threshold = screening_threshold(pass.squared_norms[query], distance_of(last), pass.dim);
  }
}

// One block for each query: the keys of its list up to the radius, behind what `found` counts; empties the list.
__global__ void __launch_bounds__(kThreads) take_within(Pass pass, Key* found, Key* keys) {
  const int query = static_cast<int>(blockIdx.x), count = pass.counts[query];
  const Key* list = pass.lists + static_cast<int64_t>(query) * pass.list_length;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    if (!(distance_of(list[i]) <= pass.radius)) continue;
    const Key place = atomicAdd(found + query, Key{1});
    if (keys) keys[place] = list[i];
  }
  __syncthreads();  // everybody has read the count
  if (threadIdx.x == 0) pass.counts[query] = 0;
}

__global__ void __launch_bounds__(kThreads) write_results(Pass pass, float* distances, int64_t* indices) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(pass.count) * pass.k) return;
  const int64_t query = i / pass.k;
  const Key key = pass.best[query * pass.best_length + i % pass.k];
  const bool ignored = pass.bounds[query].ignored != 0;
  distances[i] = ignored         ? std::numeric_limits<float>::quiet_NaN()
                 : key == kNoKey ? std::numeric_limits<float>::infinity()
                                 : distance_of(key);
  indices[i] = key == kNoKey ? -1 : static_cast<int64_t>(key & 0xffffffffu);
}

}  // namespace
}  // namespace pyhue::cuda
