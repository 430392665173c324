// Adaptive-bandwidth kernel density over nearest neighbours, by class.
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

//   distances, labels  (images, pixels, k); labels < classes
//   class_counts       (classes,)
//   log_likelihood     (images, classes), written
bool density(const float* distances, const int64_t* labels, const int64_t* class_counts, int64_t images, int64_t pixels,
             int64_t k, int64_t classes, double eps, double* log_likelihood, const Executor& executor);

}  // namespace pyhue
