// Packing: from coordinates to what the search kernels read.
//
// Coordinates are the memory's vectors in any system that keeps distances: z = R (x - centre). The first
// `prefix` of them, a, are stored as bfloat16, u = a + rounding; the rest is known by its norm. With v the
// rounded prefix of a query, Cauchy-Schwarz gives an upper bound of the dot product that is certain:
//
//     <z_q, z_x>  <=  <u, v>  +  |v| error_x  +  norm_x error_q  +  tail_q tail_x
//
// and with the norms a lower bound of the distance. Every term is rounded to the safe side, and the
// constants below cover the rounding of the kernels that add them up.
//
// Vectors whose norm is beyond what float32 products hold get an infinite norm: they are never dropped.
#pragma once

#include <cstdint>

#include "core/executor.h"

namespace pyhue {

// Coordinates of `count` vectors.
struct Coordinates {
  const double* prefix;         // (count, dims)
  const double* squared_norms;  // (count,) of all coordinates, prefix and tail
  int64_t count;
  int dims;
  double orthogonality_error;  // eta: | |R z|^2 - |z|^2 | <= eta |z|^2
};

// Padded length of a stored prefix: pairs of dimensions.
inline int padded(int dims) { return (dims + 1) / 2 * 2; }

// Writes vectors first .. first + count - 1 of a memory.
//   blocks  (ceil(n / kBlock), padded(dims) / 2, kBlock, 2) bfloat16
//   bounds  (ceil(n / kBlock), kBoundTerms, kBlock) float32: half of the squared norm, rounded down; norm,
//           norm of the rounding error, norm of the tail, rounded up
void pack_memory(const Coordinates& coordinates, int64_t first, uint16_t* blocks, float* bounds,
                 const Executor& executor);

// What search needs of each query.
struct PackedQuery {
  double squared_norm;
  float norm_factor, error_factor, tail_factor;  // as in QueryBound
};

//   prefixes  (count, padded(dims)) bfloat16
//   packed    (count,)
void pack_queries(const Coordinates& coordinates, uint16_t* prefixes, PackedQuery* packed);

}  // namespace pyhue
