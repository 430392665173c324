// One row of the hue cross-entropy: its arrays, and its distances a register of classes at a time.
// Included by kernels only.
#pragma once

#include "core/elements.h"
#include "core/hue_cross_entropy_kernel_types.h"
#include "core/hue_softmax.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// One row's arrays and target distribution q. kPerClass: hue has a point for every class.
template <class Element, bool kPerClass>
struct HueCrossEntropyRow {
  using Real = RealOf<Element>;

  HueCrossEntropyRow(const HueCrossEntropyRows& rows, int64_t row)
      : input(static_cast<const Element*>(rows.input) + row * rows.classes),
        label_x(static_cast<const Real*>(rows.label_x)),
        label_y(static_cast<const Real*>(rows.label_y)),
        points(static_cast<const Real*>(rows.hue) + 2 * row * (kPerClass ? rows.classes : 1)),
        hue(points, rows.hue_scale),
        weight(static_cast<const Real*>(rows.weight)),
        given(static_cast<Real>(1 - rows.label_smoothing)),
        smooth(static_cast<Real>(rows.label_smoothing / static_cast<double>(rows.classes))),
        softcap(splat(static_cast<Real>(rows.softcap))),
        inverse_softcap(splat(static_cast<Real>(1 / rows.softcap))),
        scale(static_cast<Real>(rows.row_scale)) {
    if (rows.row_weight) scale *= static_cast<const Real*>(rows.row_weight)[row];
    if (rows.probabilities) {
      probabilities = static_cast<const Real*>(rows.probabilities) + row * rows.classes;
    } else {
      target = rows.target[row];
      if (weight) counts = weight[target];
      hard = given * counts;
    }
  }

  // q without its one-hot part, for a register of classes.
  template <class Extent>
  Vector<Real> soft(int64_t i, Extent part) const {
    Vector<Real> q = splat(smooth);
    if (probabilities) q = multiply_add(load_elements(probabilities + i, part), splat(given), q);
    if (weight) q *= load_elements(weight + i, part);
    return keep(q, part, Vector<Real>{});
  }

  Vector<Real> capped(Vector<Real> x) const { return softcap * tanh(x * inverse_softcap); }
  // What a unit of x adds to the capped logit y.
  Vector<Real> slope(Vector<Real> y) const {
    const Vector<Real> share = y * inverse_softcap;
    return 1 - share * share;
  }

  template <class Extent>
  HueRegister<Real> hue_of(int64_t i, Extent part) const {
    HuePoint<Real> point = hue;
    if constexpr (kPerClass) load_pairs(points + 2 * i, part, point.x, point.y);
    return point(load_elements(label_x + i), load_elements(label_y + i));
  }

  // A distance that the exponents can be shifted by: see hue_shift.
  Vector<Real> shift(int64_t classes, double scaled_radius) const {
    if constexpr (!kPerClass) return hue_shift(hue, label_x, label_y, classes, scaled_radius);
    return nearest_distance<Real>(classes, [&](int64_t i, auto part) { return hue_of(i, part).distance; });
  }

  const Element* input;
  const Real* label_x;
  const Real* label_y;
  const Real* points;  // the row's hue
  HuePoint<Real> hue;
  const Real* weight;
  const Real* probabilities = nullptr;
  Real given, smooth;
  Vector<Real> softcap, inverse_softcap;
  Real scale;  // of the row's gradients
  int64_t target = 0;
  Real hard = 0;    // the one-hot part of q, at `target`
  Real counts = 1;  // the weight of the target
};

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
