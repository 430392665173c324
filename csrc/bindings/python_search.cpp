// Search on NumPy arrays: every call checks how they fit together (search_arrays.h), releases the GIL and returns.
#include "bindings/python_search.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "bindings/interruption.h"
#include "bindings/search_arrays.h"
#include "core/audit.h"
#include "core/pack_vectors.h"
#include "core/search.h"
#include "core/visit.h"
#include "core/within.h"
#include "cuda/packed.h"
#include "cuda/search.h"
#include "cuda/search_plan.h"

namespace py = pybind11;

namespace pyhue {
namespace {

Projection projection(const py::array& center, const std::optional<py::array>& rotation, double stretch) {
  const auto middle = checked<double>(center, "center", {-1});
  require(1 <= middle.size() && middle.size() <= kMaxDim, "center", "1 to 4096 channels");
  require(stretch > 0 && std::isfinite(stretch), "stretch", "a positive number");
  if (!rotation) return {middle.data(), nullptr, 0, middle.size(), stretch};
  const auto rows = checked<double>(*rotation, "rotation", {-1, middle.size()});
  require(1 <= rows.shape(0) && rows.shape(0) <= kMaxDim, "rotation", "1 to 4096 rows");
  const bool finite = std::all_of(rows.data(), rows.data() + rows.size(), [](double v) { return std::isfinite(v); });
  require(finite, "rotation", "finite numbers");
  return {middle.data(), rows.data(), rows.shape(0), middle.size(), stretch};
}

py::object rotation(const Projection& projection) {
  const std::vector<double> values = projection.rotation();
  if (values.empty()) return py::none();
  return py::array_t<double>({projection.dims(), projection.dim()}, values.data());
}

CoordinateArrays coordinates(const Projection& projection, const py::array& vectors) {
  const auto given = checked<float>(vectors, "vectors", {-1, projection.dim()});
  const int64_t n = given.shape(0);
  py::array_t<double> values({n, projection.dims()}), squared_norms(n);
  const float* from = given.data();
  double *to = values.mutable_data(), *norms = squared_norms.mutable_data();
  {
    py::gil_scoped_release release;
    projection.project(from, n, to, norms, pool_executor(nullptr, nullptr));
  }
  return {values, squared_norms, projection.error()};
}

// An array of the vector's values, which it takes over.
template <class T>
py::array_t<T> taken(std::vector<T>& values) {
  auto* owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* vector) { delete static_cast<std::vector<T>*>(vector); });
  return py::array_t<T>(static_cast<py::ssize_t>(owned->size()), owned->data(), owner);
}

py::tuple within_arrays(const std::vector<SearchedPiece>& arrays, const LayoutArrays& layout,
                        const QueryArrays& queries, float radius, const std::optional<ChosenArrays>& selection) {
  require(radius >= 0, "radius", "at least 0");
  const std::vector<Piece> pieces = fitting_pieces(arrays, layout, queries, selection);
  const int64_t n = queries.vectors.shape(0);
  const int dim = static_cast<int>(queries.vectors.shape(1));
  const Queries view = queries.view();
  const Chosen chosen = selection ? selection->view() : Chosen{};
  Found found;
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = within(pieces, dim, layout.view(), view, n, radius, chosen, found, interruption.executor());
  }
  interruption.raise_if(!finished);
  return py::make_tuple(taken(found.limits), taken(found.distances), taken(found.indices));
}

py::tuple search_arrays(const std::vector<SearchedPiece>& arrays, const LayoutArrays& layout,
                        const QueryArrays& queries, int64_t k, const std::optional<ChosenArrays>& selection,
                        const std::optional<py::array>& limits) {
  require(k >= 1, "k", "at least 1");
  const std::vector<Piece> pieces = fitting_pieces(arrays, layout, queries, selection);
  const int64_t n = queries.vectors.shape(0);
  std::optional<py::array_t<float>> known;
  if (limits) known = checked<float>(*limits, "limits", {n});
  const float* limit_data = known ? known->data() : nullptr;
  py::array_t<float> distances({n, k});
  py::array_t<int64_t> indices({n, k});
  const Queries view = queries.view();
  float* distance_data = distances.mutable_data();
  int64_t* index_data = indices.mutable_data();
  const int dim = static_cast<int>(queries.vectors.shape(1));
  const Chosen chosen = selection ? selection->view() : Chosen{};
  Work work;
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    const Executor executor = interruption.executor();
    finished = selection ? search_chosen(pieces, dim, layout.view(), view, n, k, chosen, limit_data, distance_data,
                                         index_data, &work, executor)
                         : search(pieces, dim, layout.view(), view, n, k, limit_data, distance_data, index_data, &work,
                                  executor);
  }
  interruption.raise_if(!finished);
  return py::make_tuple(distances, indices,
                        py::make_tuple(work.pairs, work.coordinates, work.survivors, work.compared));
}

py::array_t<float> near_arrays(const std::vector<SearchedPiece>& arrays, const LayoutArrays& layout,
                               const QueryArrays& queries, int64_t k, const std::optional<ChosenArrays>& selection) {
  require(k >= 1, "k", "at least 1");
  const std::vector<Piece> pieces = fitting_pieces(arrays, layout, queries, selection);
  const int64_t n = queries.vectors.shape(0);
  py::array_t<float> distances({n, k});
  float* data = distances.mutable_data();
  const Queries view = queries.view();
  const int dim = static_cast<int>(queries.vectors.shape(1));
  const Chosen chosen = selection ? selection->view() : Chosen{};
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = near_distances(pieces, dim, layout.view(), view, n, k, chosen, data, interruption.executor());
  }
  interruption.raise_if(!finished);
  return distances;
}

py::tuple search_visited_arrays(const std::vector<SearchedPiece>& arrays, const LayoutArrays& layout,
                                const QueryArrays& queries, int64_t k, const VisitArrays& visited,
                                const std::optional<ChosenArrays>& selection) {
  require(k >= 1, "k", "at least 1");
  const std::vector<Piece> pieces = fitting_pieces(arrays, layout, queries, selection);
  visited.require_fit(arrays, queries);
  const int64_t n = queries.vectors.shape(0);
  py::array_t<float> distances({n, k});
  py::array_t<int64_t> indices({n, k});
  const Queries view = queries.view();
  const Visits visits = visited.view();
  const Chosen chosen = selection ? selection->view() : Chosen{};
  float* distance_data = distances.mutable_data();
  int64_t* index_data = indices.mutable_data();
  const int dim = static_cast<int>(queries.vectors.shape(1));
  Work work;
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = search_visited(pieces, dim, layout.view(), view, n, k, visits, chosen, distance_data, index_data, &work,
                              interruption.executor());
  }
  interruption.raise_if(!finished);
  return py::make_tuple(distances, indices,
                        py::make_tuple(work.pairs, work.coordinates, work.survivors, work.compared));
}

void pack_arrays(Packed& packed, const Projection& projection, const py::array& vectors) {
  const Layout layout = packed.layout().view();
  const FilterArrays to = packed.arrays();
  const SearchedPiece given(vectors, packed.order());
  require(given.dim() == projection.dim(), "vectors", "the channels of the projection");
  require(projection.dims() == layout.dims(), "projection", "the coordinates of the layout");
  const Piece piece = given.view();
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = pack_vectors(piece, layout, projection, to, interruption.executor());
  }
  interruption.raise_if(!finished);
}

py::array_t<float> project_arrays(const Projection& projection, const py::array& vectors, const py::array& rows) {
  const SearchedPiece given(vectors, Order(rows));
  require(given.dim() == projection.dim(), "vectors", "the channels of the projection");
  const Piece piece = given.view();
  py::array_t<float> values({piece.n, projection.dims()});
  float* to = values.mutable_data();
  Interruption interruption;
  bool finished;
  {
    py::gil_scoped_release release;
    finished = project_vectors(piece, projection, to, interruption.executor());
  }
  interruption.raise_if(!finished);
  return values;
}

py::tuple audit_arrays(const SearchedPiece& piece, const QueryArrays& queries, const py::array& kth) {
  require(piece.packed(), "piece", "a packed one");
  queries.require_fit(piece, piece.packed()->layout());
  const Layout layout = piece.packed()->layout().view();
  const auto distances = checked<float>(kth, "distances", {queries.vectors.shape(0)});
  const int64_t count = distances.shape(0), rows = piece.rows();
  py::array_t<int32_t> ends({count, rows});
  py::array_t<float> bounds({count, rows});
  int32_t* end_data = ends.mutable_data();
  float* bound_data = bounds.mutable_data();
  const float* distance_data = distances.data();
  const Piece view = piece.view();
  const Queries asked = queries.view();
  {
    py::gil_scoped_release release;
    audit(view, static_cast<int>(piece.dim()), layout, asked, count, rows, distance_data, end_data, bound_data,
          pool_executor(nullptr, nullptr));
  }
  return py::make_tuple(ends, bounds);
}

}  // namespace

void bind_search(py::module_& m) {
  m.attr("packed_version") = kPackedVersion;
  m.attr("block") = kBlock;
  m.attr("stage_dims") = kStageDims;
  m.attr("stage_terms") = static_cast<int>(kStageTerms);
  m.attr("cuda_slab") = cuda::kSlab;
  m.attr("cuda_terms") = static_cast<int>(cuda::kPackedTerms);
  m.attr("cuda_chunk_step") = cuda::kChunkStep;
  py::class_<LayoutArrays>(m, "Layout")
      .def(py::init<std::vector<int>, int, std::vector<int>, const py::array&>(), py::arg("block_ends"),
           py::arg("row_begin"), py::arg("row_ends"), py::arg("steps"))
      .def_property_readonly("block_shape", &LayoutArrays::block_shape)
      .def_property_readonly("block_terms", [](const LayoutArrays& layout) { return layout.view().block_terms(); })
      .def_property_readonly("padded_row_dims",
                             [](const LayoutArrays& layout) { return layout.view().padded_row_dims(); });
  py::class_<Packed, std::shared_ptr<Packed>>(m, "Packed")
      .def(py::init<const LayoutArrays&, const py::array&, const py::array&, const py::array&,
                    const std::optional<py::array>&, const std::optional<py::array>&,
                    const std::optional<py::array>&>());
  py::class_<SearchedPiece>(m, "Piece")
      .def(py::init<const py::array&, const std::shared_ptr<Packed>&, int64_t>(), py::arg("vectors"), py::arg("packed"),
           py::arg("first") = 0)
      .def(py::init<const py::array&, const py::array&, int64_t>(), py::arg("vectors"), py::arg("order"),
           py::arg("first") = 0);
  py::class_<CoordinateArrays>(m, "Coordinates")
      .def(py::init<const py::array&, const py::array&, double>())
      .def_readonly("values", &CoordinateArrays::values)
      .def_readonly("squared_norms", &CoordinateArrays::squared_norms)
      .def_readonly("error", &CoordinateArrays::error);
  py::class_<Projection>(m, "Projection")
      .def(py::init(&projection), py::arg("center"), py::arg("rotation"), py::arg("stretch") = 1.0)
      .def_property_readonly("rotation", &rotation)
      .def("coordinates", &coordinates, py::arg("vectors"))
      .def("of_rows", &project_arrays, py::arg("vectors"), py::arg("rows"));
  py::class_<QueryArrays>(m, "Queries").def(py::init<const py::array&, const CoordinateArrays&, const py::array&>());
  m.def("pack", &pack_arrays, py::arg("packed"), py::arg("projection"), py::arg("vectors"));
  py::class_<ChosenArrays>(m, "Chosen")
      .def(
          py::init<const std::optional<py::array>&, const std::optional<py::array>&, const std::optional<py::array>&>(),
          py::arg("left_out"), py::arg("groups"), py::arg("excluded"));
  m.def("search", &search_arrays, py::arg("pieces"), py::arg("layout"), py::arg("queries"), py::arg("k"),
        py::arg("chosen") = std::nullopt, py::arg("limits") = std::nullopt);
  m.def("near_distances", &near_arrays, py::arg("pieces"), py::arg("layout"), py::arg("queries"), py::arg("k"),
        py::arg("chosen") = std::nullopt);
  py::class_<VisitArrays>(m, "Visits")
      .def(py::init<const py::array&, const py::array&, const py::array&>(), py::arg("scores"), py::arg("limits"),
           py::arg("distances"));
  m.def("search_visited", &search_visited_arrays, py::arg("pieces"), py::arg("layout"), py::arg("queries"),
        py::arg("k"), py::arg("visits"), py::arg("chosen") = std::nullopt);
  m.def("within", &within_arrays, py::arg("pieces"), py::arg("layout"), py::arg("queries"), py::arg("radius"),
        py::arg("chosen") = std::nullopt);
  m.def("audit", &audit_arrays);
}

}  // namespace pyhue
