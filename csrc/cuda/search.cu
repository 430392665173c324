#include <stdexcept>

#include "cuda/screen.h"
#include "cuda/search.h"
#include "cuda/search_kernels.h"
#include "cuda/search_plan.h"

namespace pyhue::cuda {
namespace {

// 4 threads for each of the 64 vectors of a block.
template <class Stored>
__global__ void __launch_bounds__(kThreads) pack_blocks(Memory memory, uint16_t* blocks, float* terms) {
  constexpr int kGroups = kThreads / kBlock;
  __shared__ double sums[kGroups][kBlock], errors[kGroups][kBlock];
  const int lane = static_cast<int>(threadIdx.x) % kBlock, group = static_cast<int>(threadIdx.x) / kBlock;
  const int64_t block = blockIdx.x, index = block * kBlock + lane;
  const bool real = index < memory.n;
  const Stored* vector = static_cast<const Stored*>(memory.vectors) + (real ? index * memory.dim : 0);
  const auto coordinate = [&](int i) { return real ? stored_value(vector, i) - memory.center[i] : 0; };
  double sum = 0, error = 0;
  for (int i = group; i < memory.dim; i += kGroups) sum += coordinate(i) * coordinate(i);
  sums[group][lane] = sum;
  __syncthreads();
  sum = 0;
  for (int other = 0; other < kGroups; ++other) sum += sums[other][lane];
  const bool huge = is_huge(sum);
  for (int i = group; i < memory.dim; i += kGroups) {
    const double value = huge ? 0 : coordinate(i);
    const uint16_t rounded = to_bfloat16(value);
    const double difference = value - from_bfloat16(rounded);
    error += difference * difference;
    blocks[(block * memory.dim + i) * kBlock + lane] = rounded;
  }
  errors[group][lane] = error;
  __syncthreads();
  if (group > 0) return;
  for (int other = 1; other < kGroups; ++other) error += errors[other][lane];
  float* out = terms + block * kPackedTerms * kBlock + lane;
  out[kPackedHalfNorm * kBlock] = half_norm_term(sum);
  out[kPackedNorm * kBlock] = norm_term(sum, 0);
  out[kPackedError * kBlock] = error_term(error);
}

unsigned blocks_for(int64_t items, int64_t of_block) {
  return static_cast<unsigned>((items + of_block - 1) / of_block);
}

Pass pass_of(const Memory& memory, const float* queries, int64_t count, int64_t k, const Scratch& at, void* scratch) {
  unsigned char* bytes = static_cast<unsigned char*>(scratch);
  return {memory,
          queries,
          static_cast<int>(count),
          static_cast<int>(round_up_to(count, tile_queries(count))),
          static_cast<int>(round_up_to(memory.dim, kSlab)),
          static_cast<int>(k),
          static_cast<int>(best_length(k)),
          static_cast<int>(list_length(k)),
          static_cast<int>(sort_length(k)),
          reinterpret_cast<uint16_t*>(bytes + at.coordinates),
          reinterpret_cast<ScreenQuery*>(bytes + at.bounds),
          reinterpret_cast<double*>(bytes + at.squared_norms),
          reinterpret_cast<Key*>(bytes + at.best),
          reinterpret_cast<Key*>(bytes + at.lists),
          reinterpret_cast<int*>(bytes + at.counts)};
}

void prepare_pass(const Pass& pass, cudaStream_t stream) {
  launch(prepare, dim3(blocks_for(pass.padded, kWarps)), dim3(kThreads), 0, stream, pass);
}

void screen_chunk(const Pass& pass, int64_t begin, int64_t end, cudaStream_t stream) {
  const int tile = tile_queries(pass.count);
  const auto kernel = tile == kSmallTile ? screen<kSmallTile> : screen<kLargeTile>;
  const unsigned tiles = blocks_for(end - begin, kTileVectors) * static_cast<unsigned>(pass.padded / tile);
  launch(kernel, dim3(tiles), dim3(kThreads), static_cast<size_t>(screen_bytes(tile)), stream, pass, begin, end);
}

// The candidates of a chunk into the k best.
void merge_chunk(const Pass& pass, int64_t begin, int64_t end, int processors, cudaStream_t stream) {
  // A list is shared by as many blocks as fill the chip; those that find nothing end at once.
  const int parts = std::clamp(8 * processors / pass.count, 1, pass.list_length / kWarps);
  launch(refine, dim3(static_cast<unsigned>(parts), static_cast<unsigned>(pass.count)), dim3(kThreads), 0, stream,
         pass);
  launch(merge, dim3(static_cast<unsigned>(pass.count)), dim3(kThreads), static_cast<size_t>(pass.sort_length) * 8,
         stream, pass, begin, end);
}

}  // namespace

void pack(const Memory& memory, uint16_t* blocks, float* terms, cudaStream_t stream) {
  if (memory.n == 0) return;
  const auto kernel = memory.bfloat16 ? pack_blocks<uint16_t> : pack_blocks<float>;
  launch(kernel, dim3(blocks_for(memory.n, kBlock)), dim3(kThreads), 0, stream, memory, blocks, terms);
}

int64_t search_scratch_bytes(int64_t queries, int64_t k, int dim) { return scratch_of(queries, k, dim).bytes; }

void search(const Memory& memory, const float* queries, int64_t count, int64_t k, float* distances, int64_t* indices,
            void* scratch, cudaStream_t stream) {
  if (k < 1 || k > kMaxK) throw std::invalid_argument("search: k is not from 1 to 1024");
  if (memory.n >= int64_t{1} << 31) throw std::invalid_argument("search: the memory has 2^31 vectors or more");
  const int processors = multiprocessors();
  const Scratch at = scratch_of(count, k, memory.dim);
  const int64_t batch = batch_queries(count, k);
  for (int64_t first = 0; first < count; first += batch) {
    const int64_t size = std::min(batch, count - first);
    const Pass pass = pass_of(memory, queries + first * memory.dim, size, k, at, scratch);
    prepare_pass(pass, stream);
    for (int64_t begin = 0, end; begin < memory.n; begin = end) {
      end = chunk_end(begin, memory.n, k);
      screen_chunk(pass, begin, end, stream);
      merge_chunk(pass, begin, end, processors, stream);
    }
    launch(write_results, dim3(blocks_for(size * k, kThreads)), dim3(kThreads), 0, stream, pass, distances + first * k,
           indices + first * k);
  }
}

}  // namespace pyhue::cuda
