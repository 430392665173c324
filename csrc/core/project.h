// Coordinates of vectors: z = R (x - centre), in float32 with a certain bound of the error.
//
// Written here, although BLAS does it, because the threads of a BLAS keep spinning after a product and take the cores
// from the search that follows; and because a sum of few sums rounds less than BLAS promises.
#pragma once

#include <cstdint>
#include <vector>

#include "core/executor.h"

namespace pyhue {

class Projection {
 public:
  // center (dim,); rotation (rows, dim), row-major, or null for the identity. `error`: | |R z|^2 - |z|^2 | <= error
  // |z|^2 for every z. `alike`: the same bits at every instruction-set level, for twice the work.
  Projection(const double* center, const float* rotation, int64_t rows, int64_t dim, double error, bool alike = false);

  int64_t dim() const { return static_cast<int64_t>(center_.size()); }
  int64_t dims() const { return dims_; }
  // The same with the rounding of `project` counted, in norms and in dot products of coordinates.
  double error() const { return error_; }

  // vectors (n, dim) -> values (n, dims), and squared norms (n,) of x - centre, in float64. A row does not depend on
  // the others or the number of workers. Returns false when interrupted.
  bool project(const float* vectors, int64_t n, double* values, double* squared_norms, const Executor& executor) const;

 private:
  std::vector<double> center_;
  std::vector<float> panels_;  // (ceil(dims / kPanel), dim, kPanel); empty: the identity
  int64_t dims_;
  double error_;
  bool alike_;
};

}  // namespace pyhue
