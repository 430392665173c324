// The hue half of the loss, a register of classes at a time: distances from the labels to one point, and
// the sums of their softmax. Included by kernels only.
#pragma once

#include "core/elements.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// A register of classes: exponents t = scale (shift - ||label - point||), and the unit vectors from label to
// point, 0 where they coincide.
template <class Real>
struct HueRegister {
  Vector<Real> t, unit_x, unit_y;
};

template <class Real>
struct HuePoint {
  HuePoint(const Real* point, double hue_scale)
      : x(splat(point[0])), y(splat(point[1])), scale(splat(static_cast<Real>(hue_scale))), shift{} {}

  HueRegister<Real> operator()(Vector<Real> label_x, Vector<Real> label_y) const {
    const Vector<Real> dx = x - label_x, dy = y - label_y;
    Vector<Real> distance, inverse;
    square_roots(multiply_add(dx, dx, dy * dy), distance, inverse);
    return {scale * (shift - distance), dx * inverse, dy * inverse};
  }

  Vector<Real> x, y, scale, shift;
};

// The least of the distances -t(i, part).
template <class Real, class Exponent>
inline Vector<Real> nearest_distance(int64_t classes, Exponent t) {
  Vector<Real> nearest = splat(-static_cast<Real>(kInfinity));
  for_registers<Real>(0, classes,
                      [&](int64_t i, auto part) { nearest = max(keep(t(i, part), part, nearest), nearest); });
  return splat(-max_lanes(nearest));
}

// A distance that exp(scale (shift - distance)) can be shifted by without overflow: the point's distance
// from the origin is within label_radius of every distance, so the least of them is looked for only when
// scale times label_radius is large.
template <class Real>
inline Vector<Real> hue_shift(HuePoint<Real> point, const Real* label_x, const Real* label_y, int64_t classes,
                              double scaled_radius) {
  if (scaled_radius <= 30) {
    Vector<Real> distance, inverse;
    square_roots(multiply_add(point.x, point.x, point.y * point.y), distance, inverse);
    return distance;
  }
  point.scale = splat(Real(1));
  return nearest_distance<Real>(
      classes, [&](int64_t i, auto) { return point(load_elements(label_x + i), load_elements(label_y + i)).t; });
}

// e^t. kTiny: |t| <= 2^-8, where the series to t^2 is within 2^-26.
template <bool kTiny, class V>
inline V exp_hue(V t) {
  const V one = V{} + 1;
  if constexpr (kTiny)
    return multiply_add(multiply_add(t, one / 2, one), t, one);
  else
    return exp(t);
}

// Sums over classes: of e^t and e^t times the unit vector, and of the same with the soft targets q.
template <class Real>
struct HueSums {
  template <bool kTiny>
  void add(const HueRegister<Real>& hue, auto part) {
    const Vector<Real> e = keep(exp_hue<kTiny>(hue.t), part, Vector<Real>{});
    partition += e;
    x = multiply_add(e, hue.unit_x, x);
    y = multiply_add(e, hue.unit_y, y);
  }
  void add_soft(const HueRegister<Real>& hue, Vector<Real> q) {
    soft_t = multiply_add(q, hue.t, soft_t);
    soft_x = multiply_add(q, hue.unit_x, soft_x);
    soft_y = multiply_add(q, hue.unit_y, soft_y);
  }

  Vector<Real> partition{}, x{}, y{}, soft_t{}, soft_x{}, soft_y{};
};

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
