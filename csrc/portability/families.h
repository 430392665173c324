// Data that breaks searches and sums, as tests/families.py has it, from additions, products and powers of two only:
// every CPU makes the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace pyhue {

// Cheap to make: some families take one for each value.
class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) { random_(); }
  double uniform() { return static_cast<double>(next()) * 0x1p-32; }
  double normal() {  // the sum of twelve uniform numbers, near enough
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  double power() { return std::ldexp(1.0, static_cast<int>(below(66)) - 33); }  // about twenty orders of magnitude

 private:
  uint64_t next() { return random_() >> 32; }  // the lower bits of such an engine are poor

  std::linear_congruential_engine<uint64_t, 6364136223846793005u, 1442695040888963407u, 0> random_;
};

struct Family {
  const char* name;
  double (*value)(Draw& draw, int64_t row, int dim, int channel);
};

inline const Family kFamilies[] = {
    {"normal", [](Draw& d, int64_t, int, int) { return d.normal(); }},
    {"uniform", [](Draw& d, int64_t, int, int) { return d.uniform(); }},
    {"relu60", [](Draw& d, int64_t, int, int) { return std::fmax(d.normal() - 0.25, 0.0); }},
    {"relu85", [](Draw& d, int64_t, int, int) { return std::fmax(d.normal() - 1.04, 0.0); }},
    {"zero-rows", [](Draw& d, int64_t row, int, int) { return row % 3 == 0 ? 0 : std::fmax(d.normal(), 0.0); }},
    {"duplicated", [](Draw&, int64_t row, int, int c) { return static_cast<double>((row % 7 + 1) * c % 11) - 5; }},
    {"lattice", [](Draw& d, int64_t, int, int) { return static_cast<double>(d.below(3)) - 1; }},
    {"all-equal", [](Draw&, int64_t, int, int) { return 0.3; }},
    {"zeros", [](Draw&, int64_t, int, int) { return 0.0; }},
    {"signed-zeros", [](Draw& d, int64_t, int, int) { return d.below(2) ? 0.0 : -0.0; }},
    {"tiny-1e-18", [](Draw& d, int64_t, int, int) { return 1e-18 * d.normal(); }},
    {"tiny-1e-30", [](Draw& d, int64_t, int, int) { return 1e-30 * d.normal(); }},
    {"subnormal", [](Draw& d, int64_t, int, int) { return 1e-42 * d.normal(); }},
    {"huge-1e15", [](Draw& d, int64_t, int, int) { return 1e15 * d.normal(); }},
    {"huge-1e18", [](Draw& d, int64_t, int, int) { return 1e18 * d.normal(); }},
    {"overflow", [](Draw& d, int64_t, int, int) { return 1e19 * d.normal(); }},
    {"all-overflow", [](Draw& d, int64_t, int, int) { return 1e37 * d.normal(); }},
    {"translated-1e3", [](Draw& d, int64_t, int, int) { return 1e3 + d.normal(); }},
    {"translated-1e7", [](Draw& d, int64_t, int, int) { return 1e7 + d.normal(); }},
    {"20-orders", [](Draw& d, int64_t row, int, int) { return d.normal() * Draw(static_cast<unsigned>(row)).power(); }},
    {"20-orders-by-channel",
     [](Draw& d, int64_t, int, int c) { return d.normal() * Draw(static_cast<unsigned>(c)).power(); }},
    {"one-ulp",
     [](Draw& d, int64_t, int dim, int c) {
       const float base = 0.5f + static_cast<float>(Draw(static_cast<unsigned>(c)).uniform());
       if (d.below(dim) > 1) return static_cast<double>(base);
       return static_cast<double>(std::nextafterf(base, d.below(2) ? 4.0f : -4.0f));
     }},
    {"bfloat16",
     [](Draw& d, int64_t row, int dim, int c) {
       const double base = 1 + static_cast<double>(Draw(static_cast<unsigned>(c)).below(120)) / 128;
       return (row % 2 ? -1 : 1) * (base + (d.below(dim) < 8 ? 1.0 / 128 : 0));
     }},
    {"rank-1", [](Draw&, int64_t row, int dim,
                  int c) { return Draw(static_cast<unsigned>(row)).normal() * (2.0 * c / (dim - 1) - 1); }},
    {"huge-channel", [](Draw& d, int64_t, int dim, int c) { return d.normal() * (c == dim / 2 ? 1e8 : 1); }},
};

// (n, dim) values of the family.
inline std::vector<float> draw(const Family& family, unsigned seed, int64_t n, int dim) {
  Draw random(seed);
  std::vector<float> values;
  for (int64_t row = 0; row < n; ++row) {
    for (int c = 0; c < dim; ++c) values.push_back(static_cast<float>(family.value(random, row, dim, c)));
  }
  return values;
}

}  // namespace pyhue
