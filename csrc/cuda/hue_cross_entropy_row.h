// One row of the hue loss: its target distribution, its distances, and the sums that a team of threads keeps.
// Included by hue_cross_entropy.cu only.
#pragma once

#include <limits>

#include "core/hue_cross_entropy.h"
#include "cuda/elements.h"

namespace pyhue::cuda {
namespace {

template <class Real>
constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

// t = -hue_scale ||label - point||, and the unit vector from label to point, 0 where they coincide.
template <class Real>
struct HueTerm {
  Real t, unit_x, unit_y;
};

// From a label to a point: where they coincide dx and dy are 0, and so is every product with them.
template <class Real>
struct Span {
  __device__ Span(Real dx, Real dy)
      : dx(dx),
        dy(dy),
        squared(multiply_add(dx, dx, multiply_add(dy, dy, std::numeric_limits<Real>::min()))),
        inverse(inverse_root(squared)) {}

  __device__ Real distance() const { return squared * inverse; }
  // e^t / e^-(scale shift): in the sums and in the labels' gradient the same bits, since a t of a point far from all
  // labels is rounded to more than its softmax could bear.
  __device__ Real exponential(Real shift, Real scale) const {
    return power_of_two(multiply_add(-squared, inverse, shift) * (scale * kLog2E<Real>));
  }

  Real dx, dy, squared, inverse;
};

// kSoft: q has a part that is not one-hot. kPerClass: hue has a point for every class.
template <class Real, bool kSoft, bool kPerClass>
struct Row {
  __device__ Row(const HueCrossEntropy& loss, int64_t row, double row_scale)
      : classes(loss.classes),
        labels(static_cast<const Real*>(loss.labels)),
        points(static_cast<const Real*>(loss.hue) + 2 * row * (kPerClass ? loss.classes : 1)),
        weight(static_cast<const Real*>(loss.weight)),
        hue_scale(static_cast<Real>(loss.hue_scale)),
        given(kSoft ? static_cast<Real>(1 - loss.label_smoothing) : Real(1)),
        smooth(static_cast<Real>(loss.label_smoothing / static_cast<double>(loss.classes))),
        softcap(static_cast<Real>(loss.softcap)),
        scale(static_cast<Real>(row_scale)) {
    if (loss.row_weight) scale *= static_cast<const Real*>(loss.row_weight)[row];
    if (!kPerClass) {
      x = points[0];
      y = points[1];
    }
    if (loss.probabilities) {
      probabilities = static_cast<const Real*>(loss.probabilities) + row * classes;
      return;
    }
    target = loss.target[row];
    ignored = target == loss.ignore_index;
    if (ignored) return;
    if (target < 0 || target >= classes) {
      target = 0;
      hard = std::numeric_limits<Real>::quiet_NaN();
    } else {
      if (weight) counts = weight[target];
      hard = given * counts;
    }
  }

  __device__ Real capped(Real x) const { return softcap * tangent(x / softcap); }
  // What a unit of x adds to the capped logit y.
  __device__ Real slope(Real y) const {
    const Real share = y / softcap;
    return 1 - share * share;
  }

  // q without its one-hot part.
  __device__ Real soft(int64_t c) const {
    Real q = smooth;
    if (probabilities) q += given * probabilities[c];
    return weight ? q * weight[c] : q;
  }

  __device__ HueTerm<Real> hue(int64_t c) const {
    const Real dx = (kPerClass ? points[2 * c] : x) - labels[2 * c];
    const Real dy = (kPerClass ? points[2 * c + 1] : y) - labels[2 * c + 1];
    Real distance, inverse;
    square_roots(dx * dx + dy * dy, distance, inverse);
    return {-hue_scale * distance, dx * inverse, dy * inverse};
  }

  int64_t classes;
  const Real* labels;
  const Real* points;
  const Real* weight;
  const Real* probabilities = nullptr;
  Real hue_scale, given, smooth, softcap;
  Real scale;  // of the row's gradients
  Real x = 0, y = 0;
  int64_t target = -1;
  Real hard = 0;    // the one-hot part of q, at `target`
  Real counts = 1;  // the weight of the target
  bool ignored = false;
};

// The factor that moves sums of e^(x - from) to e^(x - to), to >= from; sums from -inf are 0 or NaN.
template <class Real>
__device__ inline Real rescaling(Real from, Real to) {
  return from == -kInfinity<Real> ? Real(0) : exponential(from - to);
}

// e^(x - maximum) where the maximum is -inf: 0, not the NaN of -inf - -inf.
template <class Real>
__device__ inline Real shift_of(Real maximum) {
  return maximum == -kInfinity<Real> ? Real(0) : maximum;
}

// Sums over some classes.
template <class Real, bool kSoft>
struct Sums {
  Real maximum = -kInfinity<Real>;      // of x
  Real exponentials = 0;                // of e^(x - maximum)
  Real hue_maximum = -kInfinity<Real>;  // of t
  Real partition = 0;                   // of e^(t - hue_maximum)
  Real x = 0, y = 0;                    // of the same times the unit vector
  Real soft = 0;                        // of the soft part of q
  Real soft_t = 0, soft_x = 0, soft_y = 0;

  __device__ void raise(Real new_maximum, Real new_hue_maximum) {
    exponentials *= rescaling(maximum, new_maximum);
    maximum = new_maximum;
    const Real factor = rescaling(hue_maximum, new_hue_maximum);
    partition *= factor;
    x *= factor;
    y *= factor;
    hue_maximum = new_hue_maximum;
  }

  // Adds `count` classes from c on, whose logits are `logits`: a few at a time, to need few registers.
  template <int kLength, class RowType>
  __device__ void add(const RowType& row, int64_t c, int count, const Real (&logits)[kLength]) {
    constexpr int kStep = kLength < 4 ? kLength : 4;
#pragma unroll
    for (int first = 0; first < kLength; first += kStep) {
      Real largest = maximum, hue_largest = hue_maximum;
      HueTerm<Real> hue[kStep] = {};
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        if (first + i >= count) continue;
        hue[i] = row.hue(c + first + i);
        largest = logits[first + i] > largest ? logits[first + i] : largest;
        hue_largest = hue[i].t > hue_largest ? hue[i].t : hue_largest;
      }
      if (largest > maximum || hue_largest > hue_maximum) raise(largest, hue_largest);
      const Real shift = shift_of(maximum), hue_shift = shift_of(hue_maximum);
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        if (first + i >= count) continue;
        exponentials += exponential(logits[first + i] - shift);
        const Real e = exponential(hue[i].t - hue_shift);
        partition += e;
        x += e * hue[i].unit_x;
        y += e * hue[i].unit_y;
        if (kSoft) add_soft(hue[i], row.soft(c + first + i));
      }
    }
  }

  __device__ void add_soft(const HueTerm<Real>& hue, Real q) {
    soft += q;
    soft_t += q * hue.t;
    soft_x += q * hue.unit_x;
    soft_y += q * hue.unit_y;
  }

  // The sums of all threads of the team, the same in each.
  template <class Team>
  __device__ void combine(const Team& team) {
    const auto larger = [](Real a, Real b) { return a > b ? a : b; };
    const auto plus = [](Real a, Real b) { return a + b; };
    raise(team.reduce(maximum, larger), team.reduce(hue_maximum, larger));
    exponentials = team.reduce(exponentials, plus);
    partition = team.reduce(partition, plus);
    x = team.reduce(x, plus);
    y = team.reduce(y, plus);
    if (!kSoft) return;
    soft = team.reduce(soft, plus);
    soft_t = team.reduce(soft_t, plus);
    soft_x = team.reduce(soft_x, plus);
    soft_y = team.reduce(soft_y, plus);
  }
};

}  // namespace
}  // namespace pyhue::cuda
