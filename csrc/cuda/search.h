// Exact k-nearest-neighbour search on the GPU: the same neighbours, distances and order as csrc/core/search.h.
//
//     chunk of the memory --screen: bfloat16 tiles--> candidates --refine: float32 distance--> --merge--> k best
//
// The screen multiplies bfloat16 coordinates on the tensor cores and tests the bound of core/pack.h where the sums lie:
// no matrix of distances is written. What it cannot drop is appended to the query's list; the refine computes the
// distance in the order of SquaredDistance (distance_kernel_types.h); the merge keeps the k best and sets the threshold
// for the next chunk, which is 7 times as long as all before. The order in which candidates come decides nothing.
//
// A list that overflows is thrown away: the whole chip computes the query's distances to all vectors of the chunk, and
// those nearer than the k-th best so far make a new list. One that overflows again, where later vectors are ever
// nearer, goes through the chunk in one block. Slow and slower, but exact.
//
// Which vectors may be found is asked where one would enter a list, so that lists and thresholds are those of a memory
// of these alone.
//
// The memory comes in pieces, in any order that covers it once; what lies between two calls is in `scratch`.
// Nothing waits for the device and nothing is allocated: a call is a sequence of launches that depends on shapes alone.
// Cost: 2 n dim queries operations, and the packed memory read once for each 64, 128 or 256 queries, from the
// second-level cache but for the first time.
#pragma once

#include <cstdint>

#include "core/screen_kernel_types.h"
#include "core/selection.h"
#include "cuda/stream.h"

namespace pyhue::cuda {

// Of a packed vector; coordinates are vectors less the centre.
enum PackedTerm { kPackedHalfNorm, kPackedNorm, kPackedError, kPackedTerms };

// Vectors first .. first + n - 1 of a memory of fewer than 2^31. The vectors may lie in page-locked memory of the host:
// only those of candidates are read, and of a list that overflows, all.
struct Piece {
  const void* vectors;  // (n, dim) float32 or bfloat16, row-major
  bool bfloat16;
  int64_t first, n;
  const uint16_t* blocks;  // packed coordinates: see packed.h
  const float* terms;      // (ceil(n / kBlock), kPackedTerms, kBlock): see PackedTerm
  // How many may be found of the first i times kChunkStep vectors, i = 0 .. ceil(n / kChunkStep), on the host: chunks
  // end where enough of them were searched. Null: all.
  const int64_t* left;
};

// A batch of queries on their way through a memory.
struct Search {
  const float* queries;  // (count, dim), row-major
  int64_t count;         // at most search_batch(k)
  int dim;
  const double* center;  // (dim,): what every piece was packed with
  int64_t k;             // 1 .. kMaxK
  float radius;          // vectors farther than this are not wanted; +inf: all are
  Chosen chosen;         // counts queries of this batch and vectors of the memory; on the device
  void* scratch;         // search_scratch_bytes
};

// Writes the blocks and terms of a piece, which has none yet.
void pack(const Piece& piece, int dim, const double* center, uint16_t* blocks, float* terms, cudaStream_t stream);

// How many queries may be searched together: scratch memory stays below 200 MB.
int64_t search_batch(int64_t k);
int64_t search_scratch_bytes(int64_t queries, int64_t k, int dim);

void begin_search(const Search& search, cudaStream_t stream);
// `searched`: how many vectors the calls before had that may be found.
void search_piece(const Search& search, const Piece& piece, int64_t searched, cudaStream_t stream);
// distances and indices (count, k). Where the pieces have fewer than k vectors: index -1, distance +inf. A query that
// holds a NaN or an infinity: index -1, distance NaN.
void end_search(const Search& search, float* distances, int64_t* indices, cudaStream_t stream);

// All vectors of a piece up to the radius, after begin_search. A chunk is as long as a list, which so holds all of it:
// the larger k, the fewer chunks. Adds to found[q] how many there are for query q. Unless `keys` is null it gets these
// neighbours, from where found[q] was: the bits of the distance above 32 of the index, in no order.
void search_within(const Search& search, const Piece& piece, int64_t* found, int64_t* keys, cudaStream_t stream);

}  // namespace pyhue::cuda
