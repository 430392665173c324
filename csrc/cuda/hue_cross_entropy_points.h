// The hue term of rows that have one point each and one class for a target: distances to all hue labels, their sums,
// the loss and the gradient of the point. It needs no logits. Included by hue_cross_entropy.cu only.
#pragma once

#include "cuda/hue_cross_entropy_kernels.h"

namespace pyhue::cuda {
namespace {

constexpr int kPoints = 4;  // rows that a team takes at once, for each label loaded

// t = -hue_scale distance, shifted by hue_scale times the row's `shift`.
template <class Real>
struct Points {
  Real x[kPoints], y[kPoints], shift[kPoints];
  Real scale;  // of distances
};

// How a term e^t is computed, by the largest |t|.
//
// kLinear, to 2^-12: 1 + t, within 2^-25, is linear in the distance, so that its sums follow from those of distances,
// unit vectors and labels. kTiny, to 2^-7.5: the series to t^2 is within 2^-25 too. Neither takes a shift, nor an
// exponential; their sums are of e^t - 1. kShifted: any t.
enum class Exponent { kLinear, kTiny, kShifted };
template <class Real>
constexpr Real kLinearExponent = static_cast<Real>(0x1p-12);
template <class Real>
constexpr Real kTinyExponent = static_cast<Real>(0x1.6ap-8);

// Sums over labels: of e^t for each row, then of e^t times the unit vector from label to point, x and y. On the way, in
// the linear form, of distances and of unit vectors; and the sum of the labels themselves.
template <class Real>
struct PointSums {
  Real sums[3 * kPoints + 2] = {};
  Real base = 0;            // what the sums of e^t want besides: the number of labels where they are of e^t - 1
  Real squared_radius = 0;  // the largest squared distance of a label from the origin
};

template <Exponent kExponent, class Real>
__device__ inline void add_label(const Points<Real>& points, Real label_x, Real label_y, PointSums<Real>& sums) {
  sums.squared_radius = larger(sums.squared_radius, label_x * label_x + label_y * label_y);
  if constexpr (kExponent == Exponent::kLinear) {
    sums.sums[3 * kPoints] += label_x;
    sums.sums[3 * kPoints + 1] += label_y;
  }
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    const Span<Real> span(points.x[i] - label_x, points.y[i] - label_y);
    Real factor = span.inverse;  // e^t / distance
    if constexpr (kExponent == Exponent::kLinear) {
      sums.sums[i] = multiply_add(span.squared, span.inverse, sums.sums[i]);
    } else if constexpr (kExponent == Exponent::kTiny) {
      const Real distance = span.distance();
      const Real slope = multiply_add(distance, points.scale * points.scale / 2, -points.scale);
      sums.sums[i] = multiply_add(slope, distance, sums.sums[i]);
      factor += slope;
    } else {
      const Real e = span.exponential(points.shift[i], points.scale);
      sums.sums[i] += e;
      factor *= e;
    }
    sums.sums[kPoints + i] = multiply_add(factor, span.dx, sums.sums[kPoints + i]);
    sums.sums[2 * kPoints + i] = multiply_add(factor, span.dy, sums.sums[2 * kPoints + i]);
  }
}

// `function(x, y)` for this thread's share of the labels, two of which are loaded at once.
template <class Real, int kTeam, class Function>
__device__ inline void for_labels(const HueCrossEntropy& loss, Function function) {
  struct alignas(16) Pair {
    Real values[4];
  };
  const Real* labels = static_cast<const Real*>(loss.labels);
  const bool aligned = reinterpret_cast<uintptr_t>(labels) % 16 == 0;
  const int pairs = static_cast<int>(loss.classes / 2);
#pragma unroll 1
  for (int i = Team<kTeam>::rank(); i < pairs; i += kTeam) {
    Pair pair;
    if (aligned) {
      pair = reinterpret_cast<const Pair*>(labels)[i];
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) pair.values[j] = labels[4 * static_cast<int64_t>(i) + j];
    }
    function(pair.values[0], pair.values[1]);
    function(pair.values[2], pair.values[3]);
  }
  if (loss.classes % 2 == 1 && Team<kTeam>::rank() == kTeam - 1) {
    function(labels[2 * loss.classes - 2], labels[2 * loss.classes - 1]);
  }
}

// The sums over all labels, the same in each thread.
template <Exponent kExponent, int kTeam, class Real>
__device__ inline PointSums<Real> sums_of(const HueCrossEntropy& loss, const Points<Real>& points) {
  PointSums<Real> sums;
  for_labels<Real, kTeam>(loss, [&](Real x, Real y) { add_label<kExponent>(points, x, y, sums); });
  const Team<kTeam> team;
  team.add(sums.sums);
  sums.squared_radius = team.reduce(sums.squared_radius, [](Real a, Real b) { return larger(a, b); });
  if constexpr (kExponent != Exponent::kShifted) sums.base = static_cast<Real>(loss.classes);
  if constexpr (kExponent == Exponent::kLinear) {
    // t = -scale distance; of the unit vector t times is -scale times the vector from label to point.
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      sums.sums[i] *= -points.scale;
      sums.sums[kPoints + i] -= points.scale * (sums.base * points.x[i] - sums.sums[3 * kPoints]);
      sums.sums[2 * kPoints + i] -= points.scale * (sums.base * points.y[i] - sums.sums[3 * kPoints + 1]);
    }
  }
  return sums;
}

// Shifts by the distance of the nearest label.
template <int kTeam, class Real>
__device__ inline void shift_by_nearest(const HueCrossEntropy& loss, Points<Real>& points) {
  Real least[kPoints];
  for (Real& squared : least) squared = kInfinity<Real>;
  for_labels<Real, kTeam>(loss, [&](Real x, Real y) {
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      const Real dx = points.x[i] - x, dy = points.y[i] - y;
      least[i] = -larger(-least[i], -(dx * dx + dy * dy));
    }
  });
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    points.shift[i] = sqrt(Team<kTeam>{}.reduce(least[i], [](Real a, Real b) { return -larger(-a, -b); }));
  }
}

// The sums; on return the shifts are those that the sums have.
//
// A point's distance from the origin is within the labels' radius of each of its distances: a shift that needs no
// search for the nearest label unless that radius is large. It is known only after a pass over the labels; hence the
// pass comes first, in the cheapest form that the scale allows, and is done again if the radius forbids it.
template <int kTeam, class Real>
__device__ inline PointSums<Real> sum_points(const HueCrossEntropy& loss, Points<Real>& points) {
  Real reach = 0;
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    points.shift[i] = sqrt(points.x[i] * points.x[i] + points.y[i] * points.y[i]);
    reach = larger(reach, points.shift[i]);
  }
  if constexpr (sizeof(Real) == 4) {
    const auto unshifted = [&](const PointSums<Real>& sums) {
      for (Real& shift : points.shift) shift = 0;
      return sums;
    };
    const auto allows = [&](Real largest, Real radius) { return points.scale * (reach + radius) <= largest; };
    if (allows(kLinearExponent<Real>, 0)) {
      const PointSums<Real> sums = sums_of<Exponent::kLinear, kTeam>(loss, points);
      if (allows(kLinearExponent<Real>, sqrt(sums.squared_radius))) return unshifted(sums);
    }
    if (allows(kTinyExponent<Real>, 0)) {
      const PointSums<Real> sums = sums_of<Exponent::kTiny, kTeam>(loss, points);
      if (allows(kTinyExponent<Real>, sqrt(sums.squared_radius))) return unshifted(sums);
    }
  }
  for (bool nearest = points.scale > 30;; nearest = true) {
    if (nearest) shift_by_nearest<kTeam>(loss, points);
    const PointSums<Real> sums = sums_of<Exponent::kShifted, kTeam>(loss, points);
    if (nearest || points.scale * sqrt(sums.squared_radius) <= 30) return sums;
  }
}

// What the mean makes of a row's weight.
template <class Real>
__device__ inline Real row_scale_of(const Work& work) {
  return work.total ? 1 / static_cast<Real>(*work.total) : Real(1);
}

// The hue term of rows kPoints group to kPoints (group + 1).
template <class Real, int kTeam>
__device__ inline void write_points(const HueCrossEntropy& loss, const Work& work, int64_t group) {
  if (kPoints * group >= loss.rows) return;
  Points<Real> points;
  points.scale = static_cast<Real>(loss.hue_scale);
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    const int64_t index = kPoints * group + i < loss.rows ? kPoints * group + i : loss.rows - 1;
    points.x[i] = static_cast<const Real*>(loss.hue)[2 * index];
    points.y[i] = static_cast<const Real*>(loss.hue)[2 * index + 1];
  }
  const PointSums<Real> sums = sum_points<kTeam>(loss, points);

  // A thread for each row.
  const int64_t index = kPoints * group + Team<kTeam>::rank();
  if (Team<kTeam>::rank() >= kPoints || index >= loss.rows) return;
  Real sum = 0, x = 0, y = 0, shift = 0;
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    if (Team<kTeam>::rank() == i) {
      sum = sums.sums[i];
      x = sums.sums[kPoints + i];
      y = sums.sums[2 * kPoints + i];
      shift = points.shift[i];
    }
  }
  const double whole = static_cast<double>(sums.base) + static_cast<double>(sum);
  const Real partition = static_cast<Real>(whole);
  const Row<Real, false, false> row(loss, index, row_scale_of<Real>(work));
  Real* gradient = static_cast<Real*>(loss.grad_hue) + (loss.grad_hue ? 2 * index : 0);
  if (row.ignored) {
    work.row_loss[loss.rows + index] = 0;
    if (loss.grad_hue) gradient[0] = gradient[1] = 0;
    return;
  }
  const HueTerm<Real> hue = row.hue(row.target);
  const double margin = static_cast<double>(-points.scale * shift) - static_cast<double>(hue.t);
  work.row_loss[loss.rows + index] = loss.hue_weight * row.hard * (log(whole) + margin);
  if (!loss.grad_hue) return;
  const Real scale = row.scale * static_cast<Real>(loss.hue_weight * loss.hue_scale) * row.hard;
  gradient[0] = scale * (hue.unit_x - x / partition);
  gradient[1] = scale * (hue.unit_y - y / partition);
  if (work.row_state) {
    Real* state = static_cast<Real*>(work.row_state) + kRowState * index;
    state[kShift] = shift;  // a distance, unlike in the soft forms
    state[kPartition] = scale / partition;
    state[kHard] = scale;
  }
}

}  // namespace
}  // namespace pyhue::cuda
