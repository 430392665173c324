#include "core/search.h"

#include <algorithm>
#include <limits>

#include "core/k_best.h"
#include "core/pass.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Calls each(pass, first) for all queries, as many at a time as go through the memory together.
template <class Selection, class Each>
bool in_passes(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
               int64_t k, const Selection& selection, Executor executor, Each each) {
  int64_t vectors = 0;
  for (const Piece& piece : pieces) vectors += piece.n;
  if (vectors * dim * count < executor.least_products) executor.workers = 1;
  for (int64_t first = 0; first < count && vectors > 0; first += kPassQueries) {
    const int64_t size = std::min(kPassQueries, count - first), enough = std::min(k, vectors);
    Pass<KBest, Selection> pass(dim, layout, queries, first, size, KBest(size, enough, executor.workers), selection,
                                executor);
    std::vector<float> near(static_cast<size_t>(size * enough), kInfinity);
    if (!each(pass, near, enough)) return false;
  }
  return true;
}

template <class Selection>
bool search_in_passes(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries,
                      int64_t count, int64_t k, const Selection& selection, const float* limits, float* distances,
                      int64_t* indices, Work* work, const Executor& executor) {
  std::fill(distances, distances + count * k, kInfinity);
  std::fill(indices, indices + count * k, int64_t{-1});
  const auto each = [&](auto& pass, std::vector<float>& near, int64_t enough) {
    const std::vector<int64_t>& order = pass.order();
    if (!limits && !pass.near(pieces, near.data())) return false;
    for (size_t place = 0; place < order.size(); ++place) {
      pass.limit(static_cast<int64_t>(place),
                 limits ? limits[order[place]] : near[(place + 1) * static_cast<size_t>(enough) - 1]);
    }
    if (!pass.search(pieces)) return false;
    if (work) *work += pass.work();
    const StandardArithmetic standard;
    pass.collected().write(order, distances, indices, k);
    return true;
  };
  return in_passes(pieces, dim, layout, queries, count, k, selection, executor, each);
}

}  // namespace

bool search(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
            int64_t k, const float* limits, float* distances, int64_t* indices, Work* work, const Executor& executor) {
  return search_in_passes(pieces, dim, layout, queries, count, k, All{}, limits, distances, indices, work, executor);
}

bool search_chosen(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                   int64_t k, const Chosen& chosen, const float* limits, float* distances, int64_t* indices, Work* work,
                   const Executor& executor) {
  return search_in_passes(pieces, dim, layout, queries, count, k, chosen, limits, distances, indices, work, executor);
}

bool near_distances(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                    int64_t k, const Chosen& chosen, float* distances, const Executor& executor) {
  std::fill(distances, distances + count * k, kInfinity);
  const auto each = [&](auto& pass, std::vector<float>& near, int64_t enough) {
    if (!pass.near(pieces, near.data())) return false;
    const std::vector<int64_t>& order = pass.order();
    for (size_t place = 0; place < order.size(); ++place) {
      std::copy_n(near.data() + static_cast<int64_t>(place) * enough, enough, distances + order[place] * k);
    }
    return true;
  };
  return in_passes(pieces, dim, layout, queries, count, k, chosen, executor, each);
}

}  // namespace pyhue
