// Adaptive-bandwidth kernel density over nearest neighbours, by class, and its gradient.
//
// For each image, pixels i with neighbours j at squared distances D_ij, class C_j:
//
//     log_likelihood(c) = log sum_ij [C_j = c] exp(-D_ij / (min_j D_ij + eps))  -  log class_counts(c)
//
// in float64, in logarithms throughout, so that a far neighbour never underflows to nothing. -inf for a
// class without a neighbour. Missing neighbours (label -1) do not count.
#pragma once

#include <cstdint>

#include "core/executor.h"

namespace pyhue {

//   distances, labels  (images, pixels, k), float or double; labels < classes
//   class_counts       (classes,)
//   log_likelihood     (images, classes), written
template <class Distance>
bool density(const Distance* distances, const int64_t* labels, const int64_t* class_counts, int64_t images,
             int64_t pixels, int64_t k, int64_t classes, double eps, double* log_likelihood, const Executor& executor);

// Some vectors of a memory, one after the other.
struct StoredPiece {
  const void* vectors;  // (size, dim), float32, or bfloat16 for all pieces
  int64_t size;
};

// Which stored vectors the pixels of images found.
struct FoundNeighbors {
  int64_t images, pixels, k;
  int dim;
  bool normalize;          // compared were not the pixels' vectors, but these scaled to unit length
  const int64_t* indices;  // (images, pixels, k), rows of the pieces as if they were one array; -1 where there is none
  const StoredPiece* pieces;
  int piece_count;
  bool bfloat16;
};

// The squared distances (images, pixels, k) of activations (images, pixels, dim) to their neighbours, in float64:
// the density's own are those of a search, rounded to float32. +inf where there is no neighbour.
void density_distances(const FoundNeighbors& found, const double* activations, double* distances,
                       const Executor& executor);

// The gradient of log_likelihood to the activations. With q_i the vector that is compared, slope_ij the derivative of
// the loss by exponent_ij = -D_ij / a_i, a_i = D_im + eps, m the nearest:
//
//     slope_ij = gradient(C_j) exp(exponent_ij - log_likelihood(C_j)) / class_counts(C_j)
//     pull_ij  = -slope_ij / a_i  -  [j = m] sum_l slope_il exponent_il / a_i
//     dL/dq_i  = 2 sum_j pull_ij (q_i - v_j)
//     dL/dx_i  = (dL/dq_i - (dL/dq_i . q_i) q_i) / |x_i|    if q_i = x_i / |x_i|, 0 if x_i is
//
// in float64. Which vectors are neighbours does not change; of equally near ones the first is the nearest. What is
// stored at distance 0 pulls nowhere. A class that nobody votes for passes nothing on, whatever its gradient.
//
// Each neighbour's vector is read once, from the memory itself: k dim (4 or 2) bytes a pixel, and activations and
// their gradient; neither the vectors nor their differences are ever written.
template <class Value>
struct DensityGradient {
  int64_t classes;
  double eps;
  const Value* activations;      // (images, pixels, dim)
  const Value* distances;        // (images, pixels, k)
  const int64_t* labels;         // likewise
  const int64_t* class_counts;   // (classes,)
  const double* log_likelihood;  // (images, classes)
  const double* gradient;        // likewise, of the loss
  Value* to;                     // (images, pixels, dim), written
};

template <class Value>
void density_backward(const FoundNeighbors& found, const DensityGradient<Value>& arguments, const Executor& executor);

}  // namespace pyhue
