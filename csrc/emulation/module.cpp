// pyhue._emulation: the CUDA kernels on the CPU, for tests. Arrays lie in memory of just their size, so that the
// address sanitizer sees every access beyond them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cuda/density.h"
#include "cuda/hue_cross_entropy.h"
#include "cuda/rows.h"
#include "cuda/search_plan.h"
#include "emulation/search.h"

namespace py = pybind11;

namespace pyhue {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Which vectors of a memory may be found, as in Chosen; nothing: all.
struct Choice {
  std::optional<Array<uint8_t>> left_out;
  std::optional<Array<int64_t>> groups, excluded;

  Chosen of(int64_t first_query) const {
    return {left_out ? left_out->data() : nullptr, left_out ? 8 * left_out->shape(0) : 0,
            groups ? groups->data() : nullptr, excluded ? excluded->data(first_query) : nullptr};
  }
};

// Some rows of an array as a piece of a memory, packed by the kernel.
struct Packed {
  Packed(const py::array& vectors, const Array<double>& center, int64_t first, int64_t end, const Choice& choice = {})
      : blocks(static_cast<size_t>(blocks_of(end - first) * cuda::slabs_of(dim_of(vectors)) * cuda::kTileBytes / 2)),
        terms(static_cast<size_t>(blocks_of(end - first) * cuda::kPackedTerms * kBlock), -1e30f),
        piece{vectors.data(first), vectors.itemsize() == 2, first, end - first, blocks.data(), terms.data(), nullptr} {
    std::fill(blocks.begin(), blocks.end(), uint16_t{0x7fff});
    cuda::pack(piece, dim_of(vectors), center.data(), blocks.data(), terms.data(), nullptr);
    if (!choice.left_out) return;
    for (int64_t i = 0, count = 0; i < piece.n; ++i) {
      if (i % cuda::kChunkStep == 0) left.push_back(count);
      count += choice.of(0).has(first + i);
      if (i == piece.n - 1) left.push_back(count);
    }
    piece.left = left.data();
  }
  Packed(const Packed&) = delete;

  // How many may be found.
  int64_t size() const { return left.empty() ? piece.n : left.back(); }

  static int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }
  static int dim_of(const py::array& vectors) { return static_cast<int>(vectors.shape(1)); }

  std::vector<uint16_t> blocks;
  std::vector<float> terms;
  std::vector<int64_t> left;
  cuda::Piece piece;
};

// A batch of queries with scratch memory that holds garbage.
struct Batch {
  Batch(const Array<float>& queries, int64_t first, int64_t count, const Array<double>& center, int64_t k,
        float radius = std::numeric_limits<float>::infinity(), const Choice& choice = {})
      : scratch(static_cast<size_t>(cuda::search_scratch_bytes(count, k, static_cast<int>(queries.shape(1)))), 0xff),
        search{queries.data(first), count,         static_cast<int>(queries.shape(1)), center.data(), k, radius,
               choice.of(first),    scratch.data()} {}
  Batch(const Batch&) = delete;

  std::vector<unsigned char> scratch;
  cuda::Search search;
};

using Pieces = std::vector<std::unique_ptr<Packed>>;

Pieces cut_pieces(const py::array& vectors, const Array<double>& center, std::vector<int64_t> cuts,
                  const Choice& choice) {
  Pieces pieces;
  cuts.push_back(vectors.shape(0));
  int64_t first = 0;
  for (const int64_t end : cuts) {
    pieces.push_back(std::make_unique<Packed>(vectors, center, first, end, choice));
    first = end;
  }
  return pieces;
}

// Searches a memory that is cut into pieces at `cuts`, the last one first if `backwards`.
py::tuple search_arrays(const py::array& vectors, const Array<double>& center, const Array<float>& queries, int64_t k,
                        std::vector<int64_t> cuts, bool backwards, std::optional<Array<uint8_t>> left_out,
                        std::optional<Array<int64_t>> groups, std::optional<Array<int64_t>> excluded) {
  const Choice choice{std::move(left_out), std::move(groups), std::move(excluded)};
  Pieces pieces = cut_pieces(vectors, center, std::move(cuts), choice);
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  const int64_t count = queries.shape(0), batch = cuda::search_batch(k);
  Array<float> distances({count, k});
  Array<int64_t> indices({count, k});
  for (int64_t begin = 0; begin < count; begin += batch) {
    const Batch queries_of(queries, begin, std::min(batch, count - begin), center, k,
                           std::numeric_limits<float>::infinity(), choice);
    cuda::begin_search(queries_of.search, nullptr);
    int64_t searched = 0;
    for (const auto& packed : pieces) {
      cuda::search_piece(queries_of.search, packed->piece, searched, nullptr);
      searched += packed->size();
    }
    cuda::end_search(queries_of.search, distances.mutable_data(begin), indices.mutable_data(begin), nullptr);
  }
  return py::make_tuple(distances, indices);
}

// How many vectors each query has within the radius, and their keys, query by query, in no order.
py::tuple search_within_arrays(const py::array& vectors, const Array<double>& center, const Array<float>& queries,
                               float radius, std::vector<int64_t> cuts, std::optional<Array<uint8_t>> left_out,
                               std::optional<Array<int64_t>> groups, std::optional<Array<int64_t>> excluded) {
  const Choice choice{std::move(left_out), std::move(groups), std::move(excluded)};
  const Pieces pieces = cut_pieces(vectors, center, std::move(cuts), choice);
  const int64_t count = queries.shape(0);
  const Batch batch(queries, 0, count, center, cuda::kMaxK, radius, choice);
  cuda::begin_search(batch.search, nullptr);
  std::vector<int64_t> found(static_cast<size_t>(count));
  const auto search = [&](int64_t* keys) {
    for (const auto& packed : pieces) cuda::search_within(batch.search, packed->piece, found.data(), keys, nullptr);
  };
  search(nullptr);
  Array<int64_t> counts(count, found.data());
  int64_t total = 0;
  for (int64_t& each : found) total += std::exchange(each, total);
  Array<int64_t> keys(total);
  search(keys.mutable_data());
  return py::make_tuple(counts, keys);
}

Array<uint8_t> screen_audit_arrays(const py::array& vectors, const Array<double>& center, const Array<float>& queries,
                                   const Array<float>& distances) {
  const Packed packed(vectors, center, 0, vectors.shape(0));
  const Batch batch(queries, 0, queries.shape(0), center, 1);
  Array<uint8_t> kept({queries.shape(0), vectors.shape(0)});
  cuda::screen_audit(batch.search, packed.piece, distances.data(), kept.mutable_data());
  return kept;
}

template <class Value>
Array<float> store_rows_arrays(const Array<Value>& from, bool normalize) {
  Array<float> to({from.shape(0), from.shape(1)});
  cuda::store_rows(from.data(), from.shape(0), static_cast<int>(from.shape(1)), normalize, to.mutable_data(), nullptr);
  return to;
}

template <class Distance>
Array<double> density_arrays(const Array<Distance>& distances, const Array<int64_t>& labels,
                             const Array<int64_t>& class_counts, double eps) {
  const bool counts_of_images = class_counts.ndim() == 2;
  const int64_t images = distances.shape(0), classes = class_counts.shape(counts_of_images ? 1 : 0);
  Array<double> out({images, classes});
  std::vector<double> exponents(static_cast<size_t>(distances.size()), -1e30);
  cuda::density(distances.data(), labels.data(), class_counts.data(), counts_of_images, images, distances.shape(1),
                distances.shape(2), classes, eps, exponents.data(), out.mutable_data(), nullptr);
  return out;
}

// The ends of the chunks in a piece of n vectors, before which `searched` were searched.
std::vector<int64_t> chunk_ends(int64_t searched, int64_t n, int64_t k, const std::vector<int64_t>& left) {
  std::vector<int64_t> ends;
  for (int64_t begin = 0; begin < n; begin = ends.back()) {
    ends.push_back(cuda::chunk_end(begin, searched, n, k, left.empty() ? nullptr : left.data()));
  }
  return ends;
}

using Given = std::optional<py::array>;

const void* data(const Given& array) { return array ? array->data() : nullptr; }
void* output(Given& array) { return array ? array->mutable_data() : nullptr; }

// pyhue::cuda::hue_cross_entropy. `type` is an ElementType; 16-bit elements come as uint16. Outputs are written.
void hue_cross_entropy_arrays(int type, const py::array& input, const py::array& hue, const Given& target,
                              const Given& probabilities, const py::array& labels, const Given& weight,
                              const Given& row_weight, double hue_weight, double hue_scale, int64_t ignore_index,
                              int reduction, double label_smoothing, double lse_square_scale, double softcap,
                              py::array loss, Given grad_input, Given grad_hue, Given grad_labels,
                              Given grad_probabilities, Given lse, Given correct) {
  const HueCrossEntropy arguments{.type = static_cast<ElementType>(type),
                                  .rows = input.shape(0),
                                  .classes = input.shape(1),
                                  .input = input.data(),
                                  .hue = hue.data(),
                                  .per_class = hue.ndim() == 3,
                                  .target = static_cast<const int64_t*>(data(target)),
                                  .probabilities = data(probabilities),
                                  .labels = labels.data(),
                                  .weight = data(weight),
                                  .row_weight = data(row_weight),
                                  .hue_weight = hue_weight,
                                  .hue_scale = hue_scale,
                                  .ignore_index = ignore_index,
                                  .reduction = static_cast<Reduction>(reduction),
                                  .label_smoothing = label_smoothing,
                                  .lse_square_scale = lse_square_scale,
                                  .softcap = softcap,
                                  .loss = loss.mutable_data(),
                                  .grad_input = output(grad_input),
                                  .grad_hue = output(grad_hue),
                                  .grad_labels = output(grad_labels),
                                  .grad_probabilities = output(grad_probabilities),
                                  .lse = output(lse),
                                  .correct = static_cast<bool*>(output(correct))};
  std::vector<unsigned char> scratch(static_cast<size_t>(cuda::hue_cross_entropy_scratch_bytes(arguments)), 0xff);
  cuda::hue_cross_entropy(arguments, scratch.data(), nullptr);
}

}  // namespace

PYBIND11_MODULE(_emulation, m) {
  using namespace pybind11::literals;
  m.def("search", &search_arrays, "vectors"_a, "center"_a, "queries"_a, "k"_a, "cuts"_a = std::vector<int64_t>(),
        "backwards"_a = false, "left_out"_a = py::none(), "groups"_a = py::none(), "excluded"_a = py::none());
  m.def("search_within", &search_within_arrays, "vectors"_a, "center"_a, "queries"_a, "radius"_a,
        "cuts"_a = std::vector<int64_t>(), "left_out"_a = py::none(), "groups"_a = py::none(),
        "excluded"_a = py::none());
  m.def("choose_hopper", &cuda::choose_hopper);
  m.def("screen_audit", &screen_audit_arrays);
  m.def("store_rows", &store_rows_arrays<float>);
  m.def("store_rows", &store_rows_arrays<double>);
  m.def("density", &density_arrays<float>);
  m.def("density", &density_arrays<double>);
  m.def("hue_cross_entropy", &hue_cross_entropy_arrays);
  m.def(
      "chunk_ends",
      [](int64_t searched, int64_t n, int64_t k, const std::vector<int64_t>& left) {
        return py::tuple(py::cast(chunk_ends(searched, n, k, left)));
      },
      "searched"_a, "n"_a, "k"_a, "left"_a = std::vector<int64_t>());
  m.def("search_batch", &cuda::search_batch);
  m.def("list_length", &cuda::list_length);
  m.def("search_scratch_bytes", &cuda::search_scratch_bytes);
}

}  // namespace pyhue
