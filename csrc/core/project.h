// Coordinates of vectors: z = R (x - centre), with a certain bound of the error.
//
// R need not be orthonormal, but makes no vector longer. Then what follows in a tail covers what R loses: with I - R'R
// positive,
//
//     | <x, y> - <R x, R y> |  <=  sqrt(|x|^2 - |R x|^2) sqrt(|y|^2 - |R y|^2).
//
// Products are those of integers of 16 bits, exact, and twice as many in an instruction as of float32. R is rounded to
// them once, row by row, and is what it is then: that costs length, which the tail covers, and no error. A vector is
// rounded to them too, in one part where that changes it by less than kRounding, else in two, of which the second is
// what the first one left.
#pragma once

#include <cstdint>
#include <vector>

#include "core/executor.h"
#include "core/project_kernel_types.h"

namespace pyhue {

class Projection {
 public:
  // center (dim,); rotation (rows, dim), row-major, or null for the identity. Coordinates are divided by `stretch`,
  // which is at least what the rotation, as `rotation()` has it, multiplies a norm by.
  Projection(const double* center, const double* rotation, int64_t rows, int64_t dim, double stretch);

  int64_t dim() const { return static_cast<int64_t>(center_.size()); }
  int64_t dims() const { return dims_; }
  // R times `stretch`, (dims, dim), as it was rounded; empty for the identity.
  std::vector<double> rotation() const;
  // eta: the inequality above holds for computed coordinates with (1 + eta) |x|^2, |x| being the length below.
  double error() const;

  // vectors (n, dim) -> values (n, dims), and squared norms (n,) of x - centre, in float64; in two parts. A row does
  // not depend on the others or the number of workers. Returns false when interrupted.
  bool project(const float* vectors, int64_t n, double* values, double* squared_norms, Executor executor) const;

  // The same of some vectors, in one thread, for whom all together would leave the cache; in as few parts as do.
  class Some {
   public:
    static constexpr int64_t kMost = 16 * kProjectVectors;

    explicit Some(const Projection& projection);
    // How many there may be: as many as share what is read of the rotation, or one.
    int64_t most() const { return projection_.panels_.empty() ? 1 : kMost; }
    // Of up to so many vectors, one after the other.
    void begin();
    void add(const float* vector);
    void finish();
    // Of each, in their order; valid until the next is added. The length is that of what was projected.
    double squared_norm(int64_t place) const { return vectors_[static_cast<size_t>(place)].squared_norm; }
    double squared_length(int64_t place) const { return vectors_[static_cast<size_t>(place)].squared_length; }
    const double* values(int64_t place);

   private:
    struct Vector {
      int64_t first_part;
      int parts;
      double scale, squared_norm, squared_length;
    };

    const Projection& projection_;
    int64_t part_count_ = 0;
    std::vector<Vector> vectors_;
    std::vector<double> values_;
    std::vector<int16_t> parts_;  // (2 kMost, 2 pairs()); empty: the identity
    std::vector<float> dots_;     // (2 kMost, dims)
  };

 private:
  int64_t pairs() const { return (dim() + 1) / 2; }
  int64_t panels() const { return (dims_ + kPanel - 1) / kPanel; }
  // Rounds values (dim,) to a part (2 pairs(),), which stands for `scale` times its integers; returns the squared norm
  // of that.
  double first_part(const double* values, const Centered& sizes, int16_t* part, double& scale) const;
  // Takes the part before this one from the values, and rounds what is left, to units that are finer by kFiner.
  void second_part(double* values, double scale, int16_t* part) const;
  // dots (count, stride): of so many parts, one after the other, with the rows of a panel.
  void multiply(const int16_t* parts, int64_t count, int64_t panel, float* dots, int64_t stride) const;

  std::vector<double> center_;
  std::vector<int16_t> panels_;     // (panels(), pairs(), kPanel, 2); empty: the identity
  std::vector<double> row_scales_;  // (dims,) of a coordinate: what one stands for
  int64_t dims_;
  double stretch_;
};

}  // namespace pyhue
