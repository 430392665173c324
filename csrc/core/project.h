// Coordinates of vectors: z = R (x - centre), in float32 with a certain bound of the error.
//
// Written here, although BLAS does it, because the threads of a BLAS keep spinning after a product and take the cores
// from the search that follows; and because a sum of few sums rounds less than BLAS promises.
#pragma once

#include <cstdint>
#include <vector>

#include "core/executor.h"
#include "core/project_kernel_types.h"

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
  bool project(const float* vectors, int64_t n, double* values, double* squared_norms, Executor executor) const;

  // The same of some vectors, in one thread, for whom all together would leave the cache.
  class Some {
   public:
    static constexpr int64_t kMost = 16 * kProjectVectors;

    explicit Some(const Projection& projection);
    // How many there may be: as many as share what is read of the rotation, or one.
    int64_t most() const { return centered_.empty() ? 1 : kMost; }
    // Of up to so many vectors, one after the other.
    void begin() { count_ = 0; }
    void add(const float* vector);
    void finish();
    // Of each, in their order; valid until the next is added.
    double squared_norm(int64_t place) const { return squared_norms_[static_cast<size_t>(place)]; }
    const double* values(int64_t place);

   private:
    const Projection& projection_;
    int64_t count_ = 0;
    std::vector<double> values_, squared_norms_, scales_;
    std::vector<float> centered_, dots_;
  };

 private:
  // Writes a vector less the centre, divided by a power of two so that neither overflows nor underflows matter;
  // returns that. `values` (dim,) is scratch memory.
  double center(const float* x, double* values, double& squared_norm, float* to) const;
  // dots (count, stride): of the coordinates of a panel, of vectors that `center` wrote.
  void multiply(const float* centered, int64_t count, int64_t panel, float* dots, int64_t stride) const;
  int64_t panels() const { return (dims_ + kPanel - 1) / kPanel; }

  std::vector<double> center_;
  std::vector<float> panels_;  // (ceil(dims / kPanel), dim, kPanel); empty: the identity
  int64_t dims_;
  double error_;
  bool alike_;
};

}  // namespace pyhue
