// The arrays that a search reads, checked once, when the objects that hold them are made: whatever Python passes, the
// kernels stay within them.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/checked_array.h"
#include "core/memory.h"
#include "core/selection.h"
#include "core/tiles.h"
#include "core/visit.h"

namespace pyhue {

namespace py = pybind11;

constexpr int kMaxDim = 4096;

// A layout and the arrays that it points to.
class LayoutArrays {
 public:
  LayoutArrays(std::vector<int> block_ends, int row_begin, std::vector<int> row_ends, const py::array& steps)
      : block_ends_(std::move(block_ends)), row_ends_(std::move(row_ends)), row_begin_(row_begin) {
    require_ends(block_ends_, 1, "block_ends");
    require_ends(row_ends_, 0, "row_ends");
    const int block_dims = block_ends_.back();
    if (row_ends_.empty()) {
      require(row_begin == block_dims, "row_begin", "the last of block_ends where there are no rows");
    } else {
      require(0 <= row_begin && row_begin <= block_dims && row_begin % kStageDims == 0, "row_begin",
              "a multiple of 64 within the blocks");
      require(row_ends_.back() > block_dims && row_ends_.front() > row_begin, "row_ends", "more than the blocks hold");
      require(block_dims % kStageDims == 0, "block_ends", "multiples of 64 where there are rows");
    }
    steps_ = checked<double>(steps, "steps", {view().dims()});
    const auto usable = [](double step) { return step > 0 && step <= std::numeric_limits<double>::max(); };
    require(std::all_of(steps_.data(), steps_.data() + steps_.size(), usable), "steps", "finite positive numbers");
  }

  Layout view() const {
    return {block_ends_.data(), static_cast<int>(block_ends_.size()), row_begin_,
            row_ends_.data(),   static_cast<int>(row_ends_.size()),   steps_.data()};
  }
  // Of a block.
  py::tuple block_shape() const { return py::make_tuple(view().padded_block_dims() / 4, kBlock, 4); }
  friend bool operator==(const LayoutArrays& a, const LayoutArrays& b) {
    return a.block_ends_ == b.block_ends_ && a.row_begin_ == b.row_begin_ && a.row_ends_ == b.row_ends_ &&
           std::equal(a.steps_.data(), a.steps_.data() + a.steps_.size(), b.steps_.data());
  }

 private:
  static void require_ends(const std::vector<int>& ends, size_t least, const char* name) {
    require(least <= ends.size() && ends.size() <= kMaxStages, name, "up to 16 ends of stages");
    int before = 0;
    for (size_t i = 0; i < ends.size(); ++i) {
      require(before < ends[i] && ends[i] <= kMaxDim, name, "ends that rise, up to 4096");
      require(ends[i] % kStageDims == 0 || i + 1 == ends.size(), name, "multiples of 64 but for the last");
      before = ends[i];
    }
  }

  std::vector<int> block_ends_, row_ends_;
  int row_begin_;
  py::array_t<double> steps_;
};

// Rows of vectors, in the order in which a piece has them.
struct Order {
  py::array_t<int64_t> rows;
  int64_t end;  // above every row

  explicit Order(const py::array& array) : rows(checked<int64_t>(array, "order", {-1})), end(0) {
    const int64_t *begin = rows.data(), *last = begin + rows.size();
    if (begin == last) return;
    const auto [least, most] = std::minmax_element(begin, last);
    require(*least >= 0, "order", "rows of at least 0");
    end = *most + 1;
  }
};

// The packed form of some vectors.
class Packed {
 public:
  Packed(const LayoutArrays& arrays, const py::array& order, const py::array& blocks, const py::array& bounds,
         const std::optional<py::array>& rows, const std::optional<py::array>& row_bounds,
         const std::optional<py::array>& cluster_starts)
      : layout_(arrays), order_(order) {
    const Layout layout = layout_.view();
    const int64_t n = size(), count = (n + kBlock - 1) / kBlock;
    blocks_ = checked<uint8_t>(blocks, "blocks", {count, layout.padded_block_dims() / 4, kBlock, 4});
    bounds_ = checked<float>(bounds, "bounds", {count, layout.block_terms(), kBlock});
    require(rows.has_value() == (layout.row_stages > 0), "rows", "an array where there are row_ends, else None");
    require(row_bounds.has_value() == rows.has_value(), "row_bounds", "an array where there are rows, else None");
    if (rows) rows_ = checked<uint8_t>(*rows, "rows", {n, layout.padded_row_dims()});
    if (row_bounds) row_bounds_ = checked<float>(*row_bounds, "row_bounds", {n, layout.row_stages, kStageTerms});
    if (!cluster_starts) return;
    cluster_starts_ = checked<int64_t>(*cluster_starts, "cluster_starts", {-1});
    const int64_t *begin = cluster_starts_->data(), *end = begin + cluster_starts_->size();
    require(begin != end && *begin == 0 && end[-1] == n && std::is_sorted(begin, end), "cluster_starts",
            "positions that rise from 0 to the number of vectors");
  }

  const LayoutArrays& layout() const { return layout_; }
  const Order& order() const { return order_; }
  int64_t size() const { return order_.rows.size(); }
  int64_t clusters() const { return cluster_starts_ ? cluster_starts_->size() - 1 : -1; }
  const int64_t* cluster_starts() const { return cluster_starts_ ? cluster_starts_->data() : nullptr; }
  Filters filters() const {
    return {blocks_.data(), bounds_.data(), rows_ ? rows_->data() : nullptr,
            row_bounds_ ? row_bounds_->data() : nullptr};
  }
  FilterArrays arrays() {
    require(blocks_.writeable() && bounds_.writeable() && (!rows_ || (rows_->writeable() && row_bounds_->writeable())),
            "packed", "arrays that can be written");
    return {blocks_.mutable_data(), bounds_.mutable_data(), rows_ ? rows_->mutable_data() : nullptr,
            row_bounds_ ? row_bounds_->mutable_data() : nullptr};
  }

 private:
  LayoutArrays layout_;
  Order order_;
  py::array_t<uint8_t> blocks_;
  py::array_t<float> bounds_;
  std::optional<py::array_t<uint8_t>> rows_;
  std::optional<py::array_t<float>> row_bounds_;
  std::optional<py::array_t<int64_t>> cluster_starts_;
};

// Stored vectors, and what finds some of them: their packed form, or their rows alone.
class SearchedPiece {
 public:
  SearchedPiece(const py::array& vectors, const std::shared_ptr<Packed>& packed, int64_t first)
      : SearchedPiece(vectors, packed, packed->order(), first) {}
  SearchedPiece(const py::array& vectors, const py::array& order, int64_t first)
      : SearchedPiece(vectors, Order(order), first) {}
  SearchedPiece(const py::array& vectors, const Order& order, int64_t first = 0)
      : SearchedPiece(vectors, nullptr, order, first) {}

  int64_t dim() const { return vectors_.shape(1); }
  int64_t rows() const { return vectors_.shape(0); }
  const Packed* packed() const { return packed_.get(); }
  Piece view() const {
    return {vectors_.data(),
            vectors_.itemsize() == 2,
            first_,
            order_.rows.size(),
            order_.rows.data(),
            packed_ != nullptr,
            packed_ ? packed_->filters() : Filters{},
            packed_ ? packed_->cluster_starts() : nullptr};
  }

 private:
  SearchedPiece(const py::array& vectors, const std::shared_ptr<Packed>& packed, const Order& order, int64_t first)
      : packed_(packed), order_(order), first_(first) {
    if (vectors.itemsize() == 2) {
      vectors_ = checked<uint16_t>(vectors, "vectors", {-1, -1});
    } else {
      vectors_ = checked<float>(vectors, "vectors", {-1, -1});
    }
    require(1 <= dim() && dim() <= kMaxDim, "vectors", "1 to 4096 channels");
    require(order.end <= rows(), "order", "rows that the vectors have");
  }

  py::array vectors_;  // float32, or bfloat16 as uint16
  std::shared_ptr<Packed> packed_;
  Order order_;
  int64_t first_;
};

struct CoordinateArrays {
  py::array_t<double> values, squared_norms;
  double error;

  CoordinateArrays(const py::array& z, const py::array& norms, double eta)
      : values(checked<double>(z, "values", {-1, -1})),
        squared_norms(checked<double>(norms, "squared_norms", {values.shape(0)})),
        error(eta) {
    require(error >= 0, "error", "at least 0");
  }
  Coordinates view() const { return {values.data(), squared_norms.data(), values.shape(0), error}; }
};

struct QueryArrays {
  py::array_t<float> vectors;
  CoordinateArrays coordinates;
  py::array_t<int32_t> clusters;

  QueryArrays(const py::array& queries, const CoordinateArrays& z, const py::array& nearest)
      : vectors(checked<float>(queries, "vectors", {z.values.shape(0), -1})),
        coordinates(z),
        clusters(checked<int32_t>(nearest, "clusters", {z.values.shape(0), -1})) {}
  Queries view() const {
    return {vectors.data(), coordinates.view(), clusters.data(), static_cast<int>(clusters.shape(1))};
  }
  // Whether these queries are those of a piece.
  void require_fit(const SearchedPiece& piece, const LayoutArrays& layout) const {
    require(piece.dim() == vectors.shape(1), "vectors", "as many channels as the pieces have");
    if (!piece.packed()) return;
    require(piece.packed()->layout() == layout, "pieces", "all of one layout");
    require(coordinates.values.shape(1) == layout.view().dims(), "values", "the coordinates of the layout");
    if (piece.packed()->clusters() < 0) return;
    const int32_t *begin = clusters.data(), *end = begin + clusters.size();
    require(std::all_of(begin, end, [&](int32_t c) { return 0 <= c && c < piece.packed()->clusters(); }), "clusters",
            "clusters that the pieces have");
  }
};

struct ChosenArrays {
  std::optional<py::array_t<uint8_t>> left_out;
  std::optional<py::array_t<int64_t>> groups, excluded;

  ChosenArrays(const std::optional<py::array>& bits, const std::optional<py::array>& group_of_row,
               const std::optional<py::array>& excluded_groups) {
    if (bits) left_out = checked<uint8_t>(*bits, "left_out", {-1});
    require(group_of_row.has_value() == excluded_groups.has_value(), "groups", "an array where groups are excluded");
    if (group_of_row) groups = checked<int64_t>(*group_of_row, "groups", {-1});
    if (excluded_groups) excluded = checked<int64_t>(*excluded_groups, "excluded", {-1});
  }
  Chosen view() const {
    return {left_out ? left_out->data() : nullptr, left_out ? 8 * left_out->size() : 0,
            groups ? groups->data() : nullptr, excluded ? excluded->data() : nullptr};
  }
  void require_fit(const std::vector<SearchedPiece>& pieces, const QueryArrays& queries) const {
    if (!groups) return;
    require(excluded->size() == queries.vectors.shape(0), "excluded", "a group for each query");
    for (const SearchedPiece& piece : pieces) {
      require(piece.view().first + piece.rows() <= groups->size(), "groups", "a group for each row");
    }
  }
};

struct VisitArrays {
  py::array_t<double> scores, limits;
  py::array_t<float> distances;

  VisitArrays(const py::array& of_clusters, const py::array& most, const py::array& farthest)
      : scores(checked<double>(of_clusters, "scores", {-1, -1})),
        limits(checked<double>(most, "limits", {scores.shape(0)})),
        distances(checked<float>(farthest, "distances", {scores.shape(0)})) {}
  Visits view() const { return {scores.data(), scores.shape(1), limits.data(), distances.data()}; }
  void require_fit(const std::vector<SearchedPiece>& pieces, const QueryArrays& queries) const {
    require(scores.shape(0) == queries.vectors.shape(0), "scores", "a row for each query");
    for (const SearchedPiece& piece : pieces) {
      const int64_t clusters = piece.packed() ? piece.packed()->clusters() : -1;
      require(clusters < 0 || clusters == scores.shape(1), "scores", "a column for each cluster");
    }
  }
};

// The pieces, after a look whether all of it fits together.
inline std::vector<Piece> fitting_pieces(const std::vector<SearchedPiece>& arrays, const LayoutArrays& layout,
                                         const QueryArrays& queries, const std::optional<ChosenArrays>& selection) {
  require(queries.coordinates.values.shape(1) == layout.view().dims(), "values", "the coordinates of the layout");
  std::vector<Piece> pieces;
  for (const SearchedPiece& piece : arrays) {
    queries.require_fit(piece, layout);
    pieces.push_back(piece.view());
  }
  if (selection) selection->require_fit(arrays, queries);
  return pieces;
}

}  // namespace pyhue
