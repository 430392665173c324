// The hue half of the loss, a register of classes at a time: distances from the labels to one point, and
// the sums of their softmax. Included by kernels only.
#pragma once

#include "core/elements.h"

namespace pyhue {
namespace PYHUE_LEVEL {
namespace {

// A register of classes: vectors (dx, dy) from label to point, their lengths, and 1 / length. Where they
// coincide dx and dy are 0 and so is every product with them.
template <class Real>
struct HueRegister {
  Vector<Real> dx, dy, squared, distance, inverse;
};

template <class Real>
inline HueRegister<Real> hue_register(Vector<Real> dx, Vector<Real> dy) {
  HueRegister<Real> hue{.dx = dx, .dy = dy, .squared = {}, .distance = {}, .inverse = {}};
  hue.squared = multiply_add(dx, dx, multiply_add(dy, dy, splat(kSmallestNormal<Real>)));
  square_roots(hue.squared, hue.distance, hue.inverse);
  return hue;
}

template <class Real>
struct HuePoint {
  HuePoint(const Real* point, double hue_scale)
      : x(splat(point[0])), y(splat(point[1])), scale(splat(static_cast<Real>(hue_scale))), shift{} {}

  HueRegister<Real> operator()(Vector<Real> label_x, Vector<Real> label_y) const {
    return hue_register<Real>(x - label_x, y - label_y);
  }
  Vector<Real> exponent(const HueRegister<Real>& hue) const { return scale * (shift - hue.distance); }

  Vector<Real> x, y, scale, shift;
};

// The least of distance(i, part).
template <class Real, class Distance>
inline Vector<Real> nearest_distance(int64_t classes, Distance distance) {
  Vector<Real> nearest = splat(-static_cast<Real>(kInfinity));
  for_registers<Real>(0, classes,
                      [&](int64_t i, auto part) { nearest = max(keep(-distance(i, part), part, nearest), nearest); });
  return splat(-max_lanes(nearest));
}

// A distance that exp(scale (shift - distance)) can be shifted by without overflow: the point's distance
// from the origin is within label_radius of every distance, so the least of them is looked for only when
// scale times label_radius is large.
template <class Real>
inline Vector<Real> hue_shift(HuePoint<Real> point, const Real* label_x, const Real* label_y, int64_t classes,
                              double scaled_radius) {
  if (scaled_radius <= 30) return hue_register<Real>(point.x, point.y).distance;
  return nearest_distance<Real>(
      classes, [&](int64_t i, auto) { return point(load_elements(label_x + i), load_elements(label_y + i)).distance; });
}

// Sums over classes: of e^t, t = scale (shift - distance), and of e^t times the unit vector; and of the same
// with the soft targets q, without e.
// kTiny: |t| <= 2^-7.5, where the series to t^2 is within 2^-25. As a polynomial of the distance d,
// e^t = constant + linear d + quadratic d^2, it needs no t: the sums of d and d^2 give that of e^t.
template <class Real, bool kTiny>
struct HueSums {
  explicit HueSums(const HuePoint<Real>& point)
      : constant(1 + point.scale * point.shift * (1 + point.scale * point.shift / 2)),
        linear(-point.scale * (1 + point.scale * point.shift)),
        quadratic(point.scale * point.scale / 2) {}

  void add(const HuePoint<Real>& point, const HueRegister<Real>& hue, auto part) {
    constexpr Vector<Real> kZero{};
    Vector<Real> factor;  // e^t / d
    if constexpr (kTiny) {
      distances += keep(hue.distance, part, kZero);
      squares += keep(hue.squared, part, kZero);
      factor = multiply_add(hue.inverse, constant, multiply_add(hue.distance, quadratic, linear));
      factor = keep(factor, part, kZero);
    } else {
      const Vector<Real> e = keep(exp(point.exponent(hue)), part, kZero);
      exponentials += e;
      factor = e * hue.inverse;
    }
    x = multiply_add(factor, hue.dx, x);
    y = multiply_add(factor, hue.dy, y);
  }
  void add_soft(const HuePoint<Real>& point, const HueRegister<Real>& hue, Vector<Real> q) {
    const Vector<Real> factor = q * hue.inverse;
    soft_t = multiply_add(q, point.exponent(hue), soft_t);
    soft_x = multiply_add(factor, hue.dx, soft_x);
    soft_y = multiply_add(factor, hue.dy, soft_y);
  }
  Real partition(int64_t classes) const {
    if constexpr (!kTiny) return sum_lanes(exponentials);
    return constant[0] * static_cast<Real>(classes) + linear[0] * sum_lanes(distances) +
           quadratic[0] * sum_lanes(squares);
  }

  Vector<Real> constant, linear, quadratic;
  Vector<Real> exponentials{}, distances{}, squares{}, x{}, y{}, soft_t{}, soft_x{}, soft_y{};
};

}  // namespace
}  // namespace PYHUE_LEVEL
}  // namespace pyhue
