#include "core/within.h"

#include <algorithm>

#include "core/pass.h"

namespace pyhue {
namespace {

// A collector of pass.h: every vector up to the radius. Each worker has lists of its own.
class Within {
 public:
  Within(int64_t queries, float radius, int workers)
      : radius_(radius), queries_(queries), lists_(static_cast<size_t>(workers * queries)) {}

  float limit() const { return radius_; }
  int64_t enough() const { return 0; }

  float offer(int worker, int64_t query, Neighbor neighbor) {
    if (neighbor.distance <= radius_) lists_[static_cast<size_t>(worker * queries_ + query)].push_back(neighbor);
    return radius_;
  }

  // What all workers found for a query, in the order of results.
  std::vector<Neighbor> merged(int64_t query) const {
    std::vector<Neighbor> all;
    for (size_t list = static_cast<size_t>(query); list < lists_.size(); list += static_cast<size_t>(queries_)) {
      all.insert(all.end(), lists_[list].begin(), lists_[list].end());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  float radius_;
  int64_t queries_;
  std::vector<std::vector<Neighbor>> lists_;
};

}  // namespace

bool within(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
            float radius, const Chosen& chosen, Found& found, const Executor& executor) {
  found = {{0}, {}, {}};
  for (int64_t first = 0; first < count; first += kPassQueries) {
    const int64_t size = std::min(kPassQueries, count - first);
    Pass<Within, Chosen> pass(dim, layout, queries, first, size, Within(size, radius, executor.workers), chosen,
                              executor);
    if (!pass.search(pieces)) return false;
    std::vector<int64_t> places(static_cast<size_t>(size));  // of the queries
    for (int64_t place = 0; place < size; ++place) at(places, at(pass.order(), place) - first) = place;
    for (const int64_t place : places) {
      for (const Neighbor& neighbor : pass.collected().merged(place)) {
        found.distances.push_back(neighbor.distance);
        found.indices.push_back(neighbor.index);
      }
      found.limits.push_back(static_cast<int64_t>(found.indices.size()));
    }
  }
  return true;
}

}  // namespace pyhue
