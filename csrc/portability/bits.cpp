// Prints what search, density and loss answer on made data, as a hash of its bits for each family and option: where two
// CPUs print the same, they answer the same. The environment variable PYHUE_ISA names the level, as everywhere.
//
// Search also answers for itself: what a packed search finds is compared with one that computes every distance.
#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstdio>
#include <string>
#include <type_traits>

#include "core/bfloat16.h"
#include "core/density.h"
#include "core/hue_cross_entropy.h"
#include "core/isa.h"
#include "core/project.h"
#include "core/search.h"
#include "portability/families.h"

namespace pyhue {
namespace {

const Executor kHere = {1, nullptr, nullptr, nullptr};  // the calling thread
constexpr int kDim = 150;
constexpr int kWhole[] = {kDim}, kBlockEnds[] = {64, 128}, kRowEnds[] = {128, kDim};
constexpr int64_t kVectors = 600, kQueries = 20, kNearest = 7, kClasses = 5;

// FNV-1a; what is no number has many bit patterns, and they count as one.
class Hash {
 public:
  template <class Value>
  Hash& add(const std::vector<Value>& values) {
    for (Value value : values) {
      uint64_t bits = 0;
      if constexpr (std::is_floating_point_v<Value>) {
        if (std::isnan(value)) value = std::numeric_limits<Value>::quiet_NaN();
        bits = std::bit_cast<std::conditional_t<sizeof(Value) == 4, uint32_t, uint64_t>>(value);
      } else if constexpr (sizeof(Value) == 2) {
        bits = is_nan(value) ? 0x7fff : value.bits;
      } else {
        bits = static_cast<uint64_t>(value);
      }
      hash_ = (hash_ ^ bits) * 0x100000001b3u;
      hash_ ^= hash_ >> 29;
    }
    return *this;
  }
  uint64_t value() const { return hash_; }

 private:
  static bool is_nan(Half value) { return (value.bits & 0x7fff) > 0x7c00; }
  static bool is_nan(Bfloat16 value) { return (value.bits & 0x7fff) > 0x7f80; }

  uint64_t hash_ = 0xcbf29ce484222325u;
};

void print(const char* what, const char* family, const std::string& option, const Hash& hash) {
  std::printf("%-8s %-22s %-28s %016" PRIx64 "\n", what, family, option.c_str(), hash.value());
}

struct Found {
  std::vector<float> distances = std::vector<float>(kQueries * kNearest);
  std::vector<int64_t> indices = std::vector<int64_t>(kQueries * kNearest);
  bool operator==(const Found&) const = default;
};

// Vectors and queries of a family, stored as float32 or as bfloat16.
struct Data {
  Data(const Family& family, bool bfloat16)
      : bfloat16(bfloat16), vectors(draw(family, 1, kVectors, kDim)), queries(draw(family, 2, kQueries, kDim)) {
    if (!bfloat16) return;
    for (float& value : vectors) {
      narrow.push_back(to_bfloat16(value));
      value = from_bfloat16(narrow.back());
    }
  }
  // So that the largest value of a coordinate is 127 steps.
  std::vector<double> steps() const {
    std::vector<double> steps(kDim, 0x1p-1000);
    for (size_t i = 0; i < vectors.size(); ++i) {
      steps[i % kDim] = std::fmax(steps[i % kDim], std::fabs(double{vectors[i]}) / 127);
    }
    return steps;
  }
  const void* stored() const { return bfloat16 ? static_cast<const void*>(narrow.data()) : vectors.data(); }

  bool bfloat16;
  std::vector<float> vectors, queries;
  std::vector<uint16_t> narrow;
};

std::vector<double> squared_norms(const std::vector<double>& values) {
  std::vector<double> norms(values.size() / kDim);
  for (size_t i = 0; i < values.size(); ++i) norms[i / kDim] += values[i] * values[i];
  return norms;
}

// packed: through the filters of `layout`.
Found find(const Data& data, const Layout& layout, bool packed) {
  std::vector<int64_t> order(kVectors);
  for (int64_t row = 0; row < kVectors; ++row) order[static_cast<size_t>(row)] = row;
  const size_t blocks = (kVectors + kBlock - 1) / kBlock;
  std::vector<uint8_t> values(blocks * static_cast<size_t>(layout.block_bytes()));
  std::vector<float> bounds(blocks * kBlock * static_cast<size_t>(layout.block_terms()));
  std::vector<uint8_t> rows(static_cast<size_t>(kVectors * layout.padded_row_dims()));
  std::vector<float> row_bounds(static_cast<size_t>(kVectors * layout.row_stages * kStageTerms));
  if (packed) {
    const std::vector<double> wide(data.vectors.begin(), data.vectors.end()), norms = squared_norms(wide);
    pack(layout, {wide.data(), norms.data(), kVectors, 0}, 0,
         {values.data(), bounds.data(), rows.data(), row_bounds.data()}, kHere);
  }
  const Filters filters = {values.data(), bounds.data(), rows.data(), row_bounds.data()};
  const Piece piece = {data.stored(), data.bfloat16, 0, kVectors, order.data(), packed, filters, nullptr};
  const std::vector<double> wide(data.queries.begin(), data.queries.end()), norms = squared_norms(wide);
  const Queries queries = {data.queries.data(), {wide.data(), norms.data(), kQueries, 0}, nullptr, 0};
  Found found;
  search({&piece, 1}, kDim, layout, queries, kQueries, kNearest, nullptr, found.distances.data(), found.indices.data(),
         nullptr, kHere);
  return found;
}

// Returns how many searches were not exact.
int search_family(const Family& family) {
  int wrong = 0;
  for (const bool bfloat16 : {false, true}) {
    const Data data(family, bfloat16);
    const std::vector<double> steps = data.steps();
    const Layout layouts[] = {{kWhole, 1, kDim, nullptr, 0, steps.data()},
                              {kBlockEnds, 2, 64, kRowEnds, 2, steps.data()}};
    const Found expected = find(data, layouts[0], false);
    for (const Layout& layout : layouts) wrong += !(find(data, layout, true) == expected);
    print("search", family.name, bfloat16 ? "bfloat16" : "float32",
          Hash().add(expected.distances).add(expected.indices));
  }
  return wrong;
}

void density_family(const Family& family) {
  constexpr int64_t kImages = 2, kPixels = kQueries / kImages;
  const Data data(family, false);
  const std::vector<double> steps = data.steps();
  const Found neighbors = find(data, {kWhole, 1, kDim, nullptr, 0, steps.data()}, false);
  std::vector<int64_t> labels, counts(kClasses, kVectors / kClasses);
  for (const int64_t index : neighbors.indices) labels.push_back(index < 0 ? -1 : index % kClasses);
  std::vector<double> log_likelihood(kImages * kClasses), gradient(kImages * kClasses, 0.25), to(kQueries * kDim);
  density(neighbors.distances.data(), labels.data(), counts.data(), kImages, kPixels, kNearest, kClasses, 1e-6,
          log_likelihood.data(), kHere);
  print("density", family.name, "of a search", Hash().add(log_likelihood));

  const std::vector<double> activations(data.queries.begin(), data.queries.end());
  const StoredPiece piece = {data.stored(), kVectors};
  for (const bool normalize : {false, true}) {
    const FoundNeighbors found = {kImages, kPixels, kNearest, kDim, normalize, neighbors.indices.data(),
                                  &piece,  1,       false};
    std::vector<double> distances(kQueries * kNearest);
    density_distances(found, activations.data(), distances.data(), kHere);
    density(distances.data(), labels.data(), counts.data(), kImages, kPixels, kNearest, kClasses, 1e-6,
            log_likelihood.data(), kHere);
    density_backward<double>(found,
                             {kClasses, 1e-6, activations.data(), distances.data(), labels.data(), counts.data(),
                              log_likelihood.data(), gradient.data(), to.data()},
                             kHere);
    print("density", family.name, normalize ? "gradient, normalized" : "gradient",
          Hash().add(distances).add(log_likelihood).add(to));
  }
}

Half to_half(float value) {  // of random bits, or the sign of infinity: no CPU's own conversion
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
  if (exponent <= 0) return {static_cast<uint16_t>(bits >> 16 & 0x8000)};
  if (exponent >= 31) return {static_cast<uint16_t>((bits >> 16 & 0x8000) | 0x7bff)};
  return {static_cast<uint16_t>((bits >> 16 & 0x8000) | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff))};
}
void convert(float value, float& to) { to = value; }
void convert(float value, double& to) { to = value; }
void convert(float value, Bfloat16& to) { to = {to_bfloat16(value)}; }
void convert(float value, Half& to) { to = to_half(value); }

template <class Element>
void loss_family(const Family& family, ElementType type, const char* name) {
  using Real = RealOf<Element>;
  constexpr int64_t kRows = 6;
  constexpr int kLogits = 37;
  std::vector<Element> input;
  for (const float value : draw(family, 3, kRows, kLogits)) convert(value, input.emplace_back());
  std::vector<int64_t> target;
  for (int64_t row = 0; row < kRows; ++row) target.push_back(row == 4 ? -100 : row * 5);
  std::vector<Real> labels, weight, probabilities;
  Draw random(4);
  for (int c = 0; c < 2 * kLogits; ++c) labels.push_back(static_cast<Real>(random.normal()));
  for (int c = 0; c < kLogits; ++c) weight.push_back(static_cast<Real>(0.5 + random.uniform()));
  for (int c = 0; c < kRows * kLogits; ++c)
    probabilities.push_back(static_cast<Real>(random.uniform() * (2.0 / kLogits)));
  for (const bool per_class : {false, true}) {
    for (const bool soft : {false, true}) {
      for (const double scale : {0.001, 0.7, 40.0}) {  // sums by series, by exponentials, and shifted ones
        const size_t points = per_class ? kRows * kLogits : kRows;
        std::vector<Real> hue, loss(kRows), grad_hue(2 * points), grad_labels(2 * kLogits);
        std::vector<Real> grad_probabilities(soft ? kRows * kLogits : 0);
        for (size_t i = 0; i < 2 * points; ++i) hue.push_back(static_cast<Real>(random.normal()));
        std::vector<Element> grad_input(input.size());
        hue_cross_entropy({.type = type,
                           .rows = kRows,
                           .classes = kLogits,
                           .input = input.data(),
                           .hue = hue.data(),
                           .per_class = per_class,
                           .target = soft ? nullptr : target.data(),
                           .probabilities = soft ? probabilities.data() : nullptr,
                           .labels = labels.data(),
                           .weight = weight.data(),
                           .row_weight = nullptr,
                           .hue_weight = 0.5,
                           .hue_scale = scale,
                           .ignore_index = -100,
                           .reduction = Reduction::kNone,
                           .label_smoothing = soft ? 0 : 0.1,
                           .lse_square_scale = scale == 0.7 ? 0.01 : 0,
                           .softcap = scale == 0.7 ? 30.0 : 0,
                           .loss = loss.data(),
                           .grad_input = grad_input.data(),
                           .grad_hue = grad_hue.data(),
                           .grad_labels = grad_labels.data(),
                           .grad_probabilities = soft ? grad_probabilities.data() : nullptr},
                          kHere);
        print("loss", family.name,
              name + std::string(per_class ? " points" : " point") + (soft ? " soft" : " hard") + " " +
                  std::to_string(scale).substr(0, 5),
              Hash().add(loss).add(grad_input).add(grad_hue).add(grad_labels).add(grad_probabilities));
      }
    }
  }
}

int run() {
  set_isa_from_environment();
  int wrong = 0;
  for (const Family& family : kFamilies) {
    wrong += search_family(family);
    density_family(family);
    loss_family<float>(family, kFloat32, "float32");
    loss_family<double>(family, kFloat64, "float64");
    loss_family<Bfloat16>(family, kBfloat16, "bfloat16");
    loss_family<Half>(family, kFloat16, "float16");
    const std::vector<float> narrow = draw(family, 5, 12, kDim);
    const std::vector<double> center(narrow.begin(), narrow.begin() + kDim);
    std::vector<double> products(5 * 7), squared_norms(5);
    const std::vector<double> rows(narrow.begin() + 5 * kDim, narrow.end());
    const Projection projection(center.data(), rows.data(), 7, kDim, 1);
    projection.project(narrow.data(), 5, products.data(), squared_norms.data(), kHere);
    print("project", family.name, "", Hash().add(products).add(squared_norms));
  }
  if (wrong) std::fprintf(stderr, "%d searches with filters found other neighbours than without\n", wrong);
  return wrong != 0;
}

}  // namespace
}  // namespace pyhue

int main() { return pyhue::run(); }
