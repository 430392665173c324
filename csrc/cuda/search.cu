#include <stdexcept>

#include "cuda/screen_mma.h"
#include "cuda/screen_wgmma.h"
#include "cuda/search.h"
#include "cuda/search_plan.h"

namespace pyhue::cuda {
namespace {

// 4 threads for each of the 64 vectors of a block.
template <class Stored>
__global__ void __launch_bounds__(kThreads)
    pack_blocks(Piece piece, int dim, const double* center, uint16_t* blocks, float* terms) {
  constexpr int kGroups = kThreads / kBlock;
  __shared__ double sums[kGroups][kBlock], errors[kGroups][kBlock];
  const int lane = static_cast<int>(threadIdx.x) % kBlock, group = static_cast<int>(threadIdx.x) / kBlock;
  const int64_t block = blockIdx.x, position = block * kBlock + lane;
  const bool real = position < piece.n;
  const Stored* vector = static_cast<const Stored*>(piece.vectors) + (real ? position * dim : 0);
  const auto coordinate = [&](int i) { return real && i < dim ? stored_value(vector, i) - center[i] : 0; };
  double sum = 0, error = 0;
  for (int i = group; i < dim; i += kGroups) sum += coordinate(i) * coordinate(i);
  sums[group][lane] = sum;
  __syncthreads();
  sum = 0;
  for (int other = 0; other < kGroups; ++other) sum += sums[other][lane];
  const bool huge = is_huge(sum);
  const int slabs = slabs_of(dim);
  for (int i = group; i < slabs * kSlab; i += kGroups) {
    const double value = huge ? 0 : coordinate(i);
    const uint16_t rounded = to_bfloat16(value);
    const double difference = value - from_bfloat16(rounded);
    error += difference * difference;
    blocks[packed_offset(position, i, slabs)] = rounded;
  }
  errors[group][lane] = error;
  __syncthreads();
  if (group > 0) return;
  for (int other = 1; other < kGroups; ++other) error += errors[other][lane];
  float* out = terms + block * kPackedTerms * kBlock + lane;
  out[kPackedHalfNorm * kBlock] = half_norm_term(sum);
  out[kPackedNorm * kBlock] = norm_term(sum);
  out[kPackedError * kBlock] = error_term(error);
}

unsigned blocks_for(int64_t items, int64_t of_block) {
  return static_cast<unsigned>((items + of_block - 1) / of_block);
}

int largest_tile() { return has_hopper_kernels() ? kWgmmaLargestTile : kMmaLargestTile; }

Pass pass_of(const Search& search) {
  const Scratch at = scratch_of(search.count, search.k, search.dim, largest_tile());
  unsigned char* bytes = static_cast<unsigned char*>(search.scratch);
  return {search.queries,
          search.center,
          static_cast<int>(search.count),
          static_cast<int>(at.padded),
          search.dim,
          slabs_of(search.dim),
          static_cast<int>(search.k),
          static_cast<int>(best_length(search.k)),
          static_cast<int>(list_length(search.k)),
          static_cast<int>(sort_length(search.k)),
          search.radius,
          search.chosen,
          reinterpret_cast<uint16_t*>(bytes + at.coordinates),
          reinterpret_cast<ScreenQuery*>(bytes + at.bounds),
          reinterpret_cast<double*>(bytes + at.squared_norms),
          reinterpret_cast<Key*>(bytes + at.best),
          reinterpret_cast<Key*>(bytes + at.lists),
          reinterpret_cast<int*>(bytes + at.counts),
          reinterpret_cast<int*>(bytes + at.rescanned)};
}

template <int kQueries>
void launch_mma(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, cudaStream_t stream) {
  const unsigned tiles = blocks_for(end - begin, kMmaVectors) * static_cast<unsigned>(pass.padded / kQueries);
  launch(screen_mma<kQueries>, dim3(tiles), dim3(kThreads), static_cast<size_t>(kMmaStages * mma_stage_bytes(kQueries)),
         stream, pass, piece, begin, end);
}

template <int kQueries>
void launch_wgmma(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, cudaStream_t stream) {
  const int64_t tiles = int64_t{blocks_for(end - begin, wgmma_vectors(kQueries))} * (pass.padded / kQueries);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, multiprocessors()));
  launch(screen_wgmma<kQueries>, dim3(blocks), dim3(kWgmmaThreads), static_cast<size_t>(wgmma_shared_bytes(kQueries)),
         stream, pass, piece, begin, end);
}

void screen_chunk(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, cudaStream_t stream) {
  const int tile = tile_queries(pass.count, largest_tile());
  if (has_hopper_kernels()) {
    const auto screen = tile == 64 ? launch_wgmma<64> : tile == 128 ? launch_wgmma<128> : launch_wgmma<256>;
    screen(pass, piece, begin, end, stream);
  } else {
    const auto screen = tile == 64 ? launch_mma<64> : launch_mma<128>;
    screen(pass, piece, begin, end, stream);
  }
}

// Distances of the candidates of a chunk.
void refine_chunk(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, cudaStream_t stream) {
  // A list is shared by as many blocks as fill the chip; those that find nothing end at once, as do those that rescan.
  const int parts = std::clamp(8 * multiprocessors() / pass.count, 1, pass.list_length / kWarps);
  const int blocks = parts * pass.count + 4 * multiprocessors();
  launch(refine, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, pass, piece, begin, end, parts);
}

// The candidates of a chunk into the k best.
void merge_chunk(const Pass& pass, const Piece& piece, int64_t begin, int64_t end, cudaStream_t stream) {
  refine_chunk(pass, piece, begin, end, stream);
  launch(merge, dim3(static_cast<unsigned>(pass.count)), dim3(kThreads), static_cast<size_t>(pass.sort_length) * 8,
         stream, pass, piece, begin, end);
}

void require_numbers(const Piece& piece) {
  if (piece.first + piece.n >= int64_t{1} << 31) {
    throw std::invalid_argument("search: the memory has 2^31 vectors or more");
  }
}

}  // namespace

void pack(const Piece& piece, int dim, const double* center, uint16_t* blocks, float* terms, cudaStream_t stream) {
  if (piece.n == 0) return;
  const auto kernel = piece.bfloat16 ? pack_blocks<uint16_t> : pack_blocks<float>;
  launch(kernel, dim3(blocks_for(piece.n, kBlock)), dim3(kThreads), 0, stream, piece, dim, center, blocks, terms);
}

int64_t search_batch(int64_t k) {
  const int64_t fitting = kListBytes / (8 * list_length(k)) / kQueryTile * kQueryTile;
  return std::clamp<int64_t>(fitting, kQueryTile, kMaxBatch);
}

int64_t search_scratch_bytes(int64_t queries, int64_t k, int dim) {
  return scratch_of(queries, k, dim, largest_tile()).bytes;
}

void begin_search(const Search& search, cudaStream_t stream) {
  if (search.k < 1 || search.k > kMaxK) throw std::invalid_argument("search: k is not from 1 to 1024");
  if (search.count > search_batch(search.k)) throw std::invalid_argument("search: more queries than search_batch(k)");
  if (search.count == 0) return;
  const Pass pass = pass_of(search);
  launch(prepare, dim3(blocks_for(pass.padded, kWarps)), dim3(kThreads), 0, stream, pass);
}

void search_piece(const Search& search, const Piece& piece, int64_t searched, cudaStream_t stream) {
  require_numbers(piece);
  if (search.count == 0) return;
  const Pass pass = pass_of(search);
  for (int64_t begin = 0, end; begin < piece.n; begin = end) {
    end = chunk_end(begin, searched, piece.n, search.k, piece.left);
    screen_chunk(pass, piece, begin, end, stream);
    merge_chunk(pass, piece, begin, end, stream);
  }
}

void end_search(const Search& search, float* distances, int64_t* indices, cudaStream_t stream) {
  if (search.count == 0) return;
  launch(write_results, dim3(blocks_for(search.count * search.k, kThreads)), dim3(kThreads), 0, stream, pass_of(search),
         distances, indices);
}

void search_within(const Search& search, const Piece& piece, int64_t* found, int64_t* keys, cudaStream_t stream) {
  require_numbers(piece);
  if (search.count == 0) return;
  const Pass pass = pass_of(search);
  for (int64_t begin = 0, end; begin < piece.n; begin = end) {
    end = std::min<int64_t>(piece.n, begin + pass.list_length);
    screen_chunk(pass, piece, begin, end, stream);
    refine_chunk(pass, piece, begin, end, stream);
    launch(take_within, dim3(static_cast<unsigned>(pass.count)), dim3(kThreads), 0, stream, pass,
           reinterpret_cast<Key*>(found), reinterpret_cast<Key*>(keys));
  }
}

}  // namespace pyhue::cuda
