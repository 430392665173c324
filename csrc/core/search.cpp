#include "core/search.h"

#include <algorithm>
#include <limits>

#include "core/k_best.h"
#include "core/pass.h"

namespace pyhue {
namespace {

template <class Selection>
bool search_in_passes(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries,
                      int64_t count, int64_t k, const Selection& selection, float* distances, int64_t* indices,
                      Work* work, const Executor& executor) {
  std::fill(distances, distances + count * k, std::numeric_limits<float>::infinity());
  std::fill(indices, indices + count * k, int64_t{-1});
  int64_t vectors = 0;
  for (const Piece& piece : pieces) vectors += piece.n;
  for (int64_t first = 0; first < count && vectors > 0; first += kPassQueries) {
    const int64_t size = std::min(kPassQueries, count - first);
    Pass<KBest, Selection> pass(dim, layout, queries, first, size, KBest(size, std::min(k, vectors), executor.workers),
                                selection, executor);
    if (!pass.search(pieces)) return false;
    if (work) *work += pass.work();
    const StandardArithmetic standard;
    pass.collected().write(pass.order(), distances, indices, k);
  }
  return true;
}

}  // namespace

bool search(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
            int64_t k, float* distances, int64_t* indices, Work* work, const Executor& executor) {
  return search_in_passes(pieces, dim, layout, queries, count, k, All{}, distances, indices, work, executor);
}

bool search_chosen(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                   int64_t k, const Chosen& chosen, float* distances, int64_t* indices, Work* work,
                   const Executor& executor) {
  return search_in_passes(pieces, dim, layout, queries, count, k, chosen, distances, indices, work, executor);
}

}  // namespace pyhue
