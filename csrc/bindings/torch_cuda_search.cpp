// The operators of a memory on the GPU. Tensors come checked and contiguous from Python, on one device; only the
// vectors of a piece may also lie in page-locked memory of the host.
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "bindings/torch_cuda.h"
#include "cuda/packed.h"
#include "cuda/rows.h"
#include "cuda/search.h"
#include "cuda/search_plan.h"

namespace pyhue::cuda {
namespace {

using Optional = std::optional<Tensor>;

template <class T>
const T* values(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* mutable_values(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

Piece piece_of(const Tensor& vectors, int64_t first) {
  return {vectors.const_data_ptr(),
          vectors.scalar_type() == ScalarType::BFloat16,
          first,
          vectors.size(0),
          nullptr,
          nullptr,
          nullptr};
}

Chosen chosen_of(const Optional& left_out, const Optional& groups, const Optional& excluded) {
  return {static_cast<const uint8_t*>(data(left_out)), left_out ? 8 * left_out->size(0) : 0,
          static_cast<const int64_t*>(data(groups)), static_cast<const int64_t*>(data(excluded))};
}

Search search_of(const Tensor& queries, const Tensor& center, int64_t k, const Tensor& scratch,
                 double radius = std::numeric_limits<double>::infinity(), const Chosen& chosen = {}) {
  return {.queries = values<float>(queries),
          .count = queries.size(0),
          .dim = static_cast<int>(queries.size(1)),
          .center = values<double>(center),
          .k = k,
          .radius = static_cast<float>(radius),
          .chosen = chosen,
          .scratch = scratch.mutable_data_ptr()};
}

// Whether blocks and terms are those of n vectors, or longer.
void require_packed(int64_t n, int64_t dim, const Tensor& blocks, const Tensor& terms) {
  const auto is = [&](const Tensor& tensor, ScalarType type, const std::vector<int64_t>& sizes) {
    bool fits = tensor.scalar_type() == type && tensor.is_contiguous() &&
                tensor.dim() == static_cast<int64_t>(sizes.size()) && tensor.size(0) >= sizes[0];
    for (size_t axis = 1; fits && axis < sizes.size(); ++axis) {
      fits = tensor.size(static_cast<int64_t>(axis)) == sizes[axis];
    }
    return fits;
  };
  const int64_t count = (n + kBlock - 1) / kBlock;
  STD_TORCH_CHECK(is(blocks, ScalarType::BFloat16, {count, slabs_of(static_cast<int>(dim)), kBlock, kSlab}),
                  "blocks: expected those of the vectors");
  STD_TORCH_CHECK(is(terms, ScalarType::Float, {count, kPackedTerms, kBlock}), "terms: expected those of the vectors");
}

// vectors (n, dim) float32 or bfloat16, center (dim,) float64; writes blocks (ceil(n / kBlock), slabs, kBlock, kSlab)
// bfloat16, terms (ceil(n / kBlock), kPackedTerms, kBlock) float32.
void torch_pack_vectors(Tensor vectors, Tensor center, Tensor blocks, Tensor terms) {
  require_packed(vectors.size(0), vectors.size(1), blocks, terms);
  const OnDevice device(vectors);
  pack(piece_of(vectors, 0), static_cast<int>(vectors.size(1)), values<double>(center),
       mutable_values<uint16_t>(blocks), mutable_values<float>(terms), device.stream());
}

// How many queries may be searched together.
int64_t torch_search_batch(Tensor, int64_t k) { return search_batch(k); }

// queries (count, dim) float32 -> scratch memory of their search; no vector farther than the radius is wanted.
Tensor torch_begin_search(Tensor queries, Tensor center, int64_t k, double radius) {
  const OnDevice device(queries);
  const int dim = static_cast<int>(queries.size(1));
  const Tensor scratch = empty(queries, {search_scratch_bytes(queries.size(0), k, dim)}, ScalarType::Byte);
  begin_search(search_of(queries, center, k, scratch, radius), device.stream());
  return scratch;
}

Piece packed_piece(const Tensor& vectors, int64_t first, const Tensor& blocks, const Tensor& terms) {
  require_packed(vectors.size(0), vectors.size(1), blocks, terms);
  Piece piece = piece_of(vectors, first);
  piece.blocks = values<uint16_t>(blocks);
  piece.terms = values<float>(terms);
  return piece;
}

// `first`: number of the first vector; `searched`: how many vectors the calls before had that may be found. left_out,
// groups, excluded as in Chosen; `left` as in Piece, int64 on the host.
void torch_search_piece(Tensor scratch, Tensor queries, Tensor center, int64_t k, Tensor vectors, int64_t first,
                        Tensor blocks, Tensor terms, int64_t searched, Optional left_out, Optional groups,
                        Optional excluded, Optional left) {
  const OnDevice device(queries);
  Piece piece = packed_piece(vectors, first, blocks, terms);
  piece.left = static_cast<const int64_t*>(data(left));
  STD_TORCH_CHECK(!left || left->size(0) == (piece.n + kChunkStep - 1) / kChunkStep + 1,
                  "left: expected that of the vectors");
  const Search search = search_of(queries, center, k, scratch, std::numeric_limits<double>::infinity(),
                                  chosen_of(left_out, groups, excluded));
  search_piece(search, piece, searched, device.stream());
}

// found (count,) int64, counted up; `keys` int64, as in search_within. Queries of begin_search with k = kMaxK and this
// radius.
void torch_search_within(Tensor scratch, Tensor queries, Tensor center, double radius, Tensor vectors, int64_t first,
                         Tensor blocks, Tensor terms, Optional left_out, Optional groups, Optional excluded,
                         Tensor found, Optional keys) {
  const OnDevice device(queries);
  const Search search = search_of(queries, center, kMaxK, scratch, radius, chosen_of(left_out, groups, excluded));
  search_within(search, packed_piece(vectors, first, blocks, terms), mutable_values<int64_t>(found),
                keys ? mutable_values<int64_t>(*keys) : nullptr, device.stream());
}

// -> distances (count, k) float32, indices (count, k) int64.
std::tuple<Tensor, Tensor> torch_end_search(Tensor scratch, Tensor queries, Tensor center, int64_t k) {
  const OnDevice device(queries);
  const Tensor distances = empty(queries, {queries.size(0), k}, ScalarType::Float);
  const Tensor indices = empty(queries, {queries.size(0), k}, ScalarType::Long);
  end_search(search_of(queries, center, k, scratch), mutable_values<float>(distances), mutable_values<int64_t>(indices),
             device.stream());
  return {distances, indices};
}

// (count, dim) float32 or float64 -> float32, of unit length if asked.
Tensor torch_store_rows(Tensor rows, bool normalize) {
  const OnDevice device(rows);
  const int64_t count = rows.size(0);
  const int dim = static_cast<int>(rows.size(1));
  const Tensor out = empty(rows, {count, dim}, ScalarType::Float);
  if (rows.scalar_type() == ScalarType::Double) {
    store_rows(values<double>(rows), count, dim, normalize, mutable_values<float>(out), device.stream());
  } else {
    store_rows(values<float>(rows), count, dim, normalize, mutable_values<float>(out), device.stream());
  }
  return out;
}

}  // namespace
}  // namespace pyhue::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(PYHUE_OPS, m) {
  m.def("pack_vectors(Tensor vectors, Tensor center, Tensor(a!) blocks, Tensor(b!) terms) -> ()");
  m.def("search_batch(Tensor queries, int k) -> int");
  m.def("begin_search(Tensor queries, Tensor center, int k, float radius) -> Tensor");
  m.def(
      "search_piece(Tensor(a!) scratch, Tensor queries, Tensor center, int k, "
      "Tensor vectors, int first, Tensor blocks, Tensor terms, int searched, "
      "Tensor? left_out, Tensor? groups, Tensor? excluded, Tensor? left) -> ()");
  m.def(
      "search_within(Tensor(a!) scratch, Tensor queries, Tensor center, float radius, "
      "Tensor vectors, int first, Tensor blocks, Tensor terms, "
      "Tensor? left_out, Tensor? groups, Tensor? excluded, Tensor(b!) found, Tensor(c!)? keys) -> ()");
  m.def("end_search(Tensor scratch, Tensor queries, Tensor center, int k) -> (Tensor, Tensor)");
  m.def("store_rows(Tensor rows, bool normalize) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(PYHUE_OPS, PYHUE_KEY, m) {
  m.impl("pack_vectors", TORCH_BOX(&pyhue::cuda::torch_pack_vectors));
  m.impl("search_batch", TORCH_BOX(&pyhue::cuda::torch_search_batch));
  m.impl("begin_search", TORCH_BOX(&pyhue::cuda::torch_begin_search));
  m.impl("search_piece", TORCH_BOX(&pyhue::cuda::torch_search_piece));
  m.impl("search_within", TORCH_BOX(&pyhue::cuda::torch_search_within));
  m.impl("end_search", TORCH_BOX(&pyhue::cuda::torch_end_search));
  m.impl("store_rows", TORCH_BOX(&pyhue::cuda::torch_store_rows));
}
