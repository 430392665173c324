#include "core/visit.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "core/bound.h"
#include "core/k_best.h"
#include "core/screen.h"

namespace pyhue {
namespace {

constexpr int64_t kItemBlocks = 64;  // of pieces without clusters
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Queries first .. first + count - 1.
class VisitPass {
 public:
  VisitPass(int dim, const Layout& layout, const Queries& queries, int64_t first, int64_t count, int64_t k,
            const Visits& visits, const Chosen& chosen, const Executor& executor)
      : dim_(dim),
        layout_(layout),
        queries_(queries),
        chosen_(chosen),
        executor_(executor),
        kernels_(kernels()),
        tiles_(queries, first, count, layout_, kernels_, executor),
        found_(count, k, executor.workers),
        limits_(static_cast<size_t>(count)),
        visitors_(static_cast<size_t>(visits.clusters)),
        nearness_(static_cast<size_t>(visits.clusters)),
        everybody_(static_cast<size_t>(count)),
        workers_(static_cast<size_t>(executor.workers)) {
    for (int64_t place = 0; place < count; ++place) {
      const int64_t query = at(tiles_.order(), place);
      at(everybody_, place) = place;
      at(limits_, place).store(visits.distances[query], std::memory_order_relaxed);
      const double* scores = visits.scores + query * visits.clusters;
      for (int64_t c = 0; c < visits.clusters; ++c) {
        if (scores[c] > visits.limits[query]) continue;
        at(visitors_, c).push_back(place);
        at(nearness_, c) += scores[c];
      }
    }
    for (Worker& worker : workers_) worker.survivors.resize(static_cast<size_t>(Screen::most(kernels_)));
  }

  // Returns false when interrupted.
  bool search(std::span<const Piece> pieces) {
    if (!tiles_.complete()) return false;
    std::vector<Item> items;
    // Those nearest to their visitors first, where thresholds fall most.
    std::vector<int64_t> clusters;
    for (int64_t c = 0; c < static_cast<int64_t>(visitors_.size()); ++c) {
      const auto count = static_cast<double>(at(visitors_, c).size());
      if (count == 0) continue;
      at(nearness_, c) /= count;
      clusters.push_back(c);
    }
    std::stable_sort(clusters.begin(), clusters.end(),
                     [&](int64_t a, int64_t b) { return at(nearness_, a) < at(nearness_, b); });
    for (const int64_t c : clusters) {
      const std::vector<int64_t>& places = at(visitors_, c);
      for (const Piece& piece : pieces) {
        if (piece.cluster_starts && piece.cluster_starts[c] < piece.cluster_starts[c + 1]) {
          items.push_back({&piece, piece.cluster_starts[c], piece.cluster_starts[c + 1], &places});
        }
      }
    }
    for (const Piece& piece : pieces) {
      for (int64_t begin = 0; !piece.cluster_starts && begin < piece.n; begin += kItemBlocks * kBlock) {
        items.push_back({&piece, begin, std::min(piece.n, begin + kItemBlocks * kBlock), &everybody_});
      }
    }
    return for_each_chunk(executor_, static_cast<int64_t>(items.size()), [&](int64_t i, int w) {
      const Item& item = at(items, i);
      if (item.piece->packed) {
        visit(w, item);
      } else {
        visit_unpacked(w, item);
      }
    });
  }

  void write(float* distances, int64_t* indices, int64_t stride) const {
    found_.write(tiles_.order(), distances, indices, stride);
  }
  Work work() const {
    Work sum;
    for (const Worker& worker : workers_) sum += worker.work;
    return sum;
  }

 private:
  // Positions of a piece, and the places of the queries that see them.
  struct Item {
    const Piece* piece;
    int64_t begin, end;
    const std::vector<int64_t>* places;
  };

  struct Worker {
    std::vector<Survivor> survivors;
    Work work;
  };

  void visit(int w, const Item& item) {
    const Tiles tiles(tiles_, *item.places);
    const Screen screen(layout_, tiles);
    std::vector<QueryBound> bounds = tiles.bounds();
    for (int64_t t = 0; t < tiles.size(); ++t) {
      const Tile tile = tiles[t];
      StageHistory history;
      for (int64_t i = tile.start; i < tile.start + tile.size; ++i) tighten(at(*item.places, i), at(bounds, i));
      for (int64_t block = item.begin / kBlock; block * kBlock < item.end; ++block) {
        visit_block(w, item, screen, tile, bounds, history, block);
      }
    }
  }

  void visit_block(int w, const Item& item, const Screen& screen, const Tile& tile, std::vector<QueryBound>& bounds,
                   StageHistory& history, int64_t block) {
    Worker& worker = at(workers_, w);
    Survivor* survivors = worker.survivors.data();
    const int64_t first = block * kBlock;
    const int64_t* order = item.piece->order + first;
    int64_t read = 0;
    const int left = screen.blocks(*item.piece, block, tile, bounds.data(), history, survivors, read);
    const int64_t pairs = tile.size * item.piece->lanes(block);
    worker.work += {pairs, tile.size * read, left, 0};
    const auto unseen = [&](const Survivor& survivor) {  // of another cluster, or not to be found
      const int64_t position = first + survivor.lane, place = at(*item.places, tile.start + survivor.query);
      return position < item.begin || position >= item.end ||
             !chosen_(at(tiles_.order(), place), item.piece->first + order[survivor.lane]);
    };
    const int seen = static_cast<int>(std::remove_if(survivors, survivors + left, unseen) - survivors);
    if (seen == 0) return;
    const int kept = screen.rows(*item.piece, block, tile, bounds.data(), survivors, seen);
    // The likeliest first: the thresholds that they give exclude most others where there is none yet.
    if (at(bounds, tile.start).threshold == -kInfinity) {
      std::sort(survivors, survivors + kept,
                [](const Survivor& a, const Survivor& b) { return likelihood(a.bound) > likelihood(b.bound); });
    }
    for (int i = 0; i < kept; ++i) prefetch(*item.piece, order[survivors[i].lane], dim_);
    for (int i = 0; i < kept; ++i) {
      const int64_t place = tile.start + survivors[i].query;
      if (survivors[i].bound < at(bounds, place).threshold) continue;
      refine(w, at(*item.places, place), *item.piece, order[survivors[i].lane]);
      tighten(at(*item.places, place), at(bounds, place));
    }
  }

  void visit_unpacked(int w, const Item& item) {
    for (int64_t position = item.begin; position < item.end; ++position) {
      const int64_t row = item.piece->order[position];
      for (const int64_t place : *item.places) {
        if (!chosen_(at(tiles_.order(), place), item.piece->first + row)) continue;
        at(workers_, w).work += {1, dim_, 1, 0};
        refine(w, place, *item.piece, row);
      }
    }
  }

  void refine(int w, int64_t place, const Piece& piece, int64_t row) {
    const float* query = queries_.vectors + at(tiles_.order(), place) * dim_;
    const float distance = distance_to(kernels_, query, piece, row, dim_);
    ++at(workers_, w).work.compared;
    const float limit = found_.offer(w, place, {distance, piece.first + row});
    std::atomic<float>& shared = at(limits_, place);
    float known = shared.load(std::memory_order_relaxed);
    while (limit < known && !shared.compare_exchange_weak(known, limit, std::memory_order_relaxed)) {
    }
  }

  // Takes over the limit that all workers reached.
  void tighten(int64_t place, QueryBound& bound) const {
    const double squared_norm = queries_.coordinates.squared_norms[at(tiles_.order(), place)];
    bound.threshold = screening_threshold(squared_norm, at(limits_, place).load(std::memory_order_relaxed), dim_);
  }

  int dim_;
  Layout layout_;
  const Queries& queries_;
  Chosen chosen_;
  const Executor& executor_;
  const Kernels& kernels_;
  Tiles tiles_;
  KBest found_;
  std::vector<std::atomic<float>> limits_;      // of each place, how far the k-th nearest is at most
  std::vector<std::vector<int64_t>> visitors_;  // places, by cluster
  std::vector<double> nearness_;                // of each cluster, the sum of its visitors' scores
  std::vector<int64_t> everybody_;
  std::vector<Worker> workers_;
};

}  // namespace

bool search_visited(std::span<const Piece> pieces, int dim, const Layout& layout, const Queries& queries, int64_t count,
                    int64_t k, const Visits& visits, const Chosen& chosen, float* distances, int64_t* indices,
                    Work* work, const Executor& executor) {
  std::fill(distances, distances + count * k, kInfinity);
  std::fill(indices, indices + count * k, int64_t{-1});
  int64_t vectors = 0;
  for (const Piece& piece : pieces) vectors += piece.n;
  for (int64_t first = 0; first < count && vectors > 0; first += kPassQueries) {
    VisitPass pass(dim, layout, queries, first, std::min(kPassQueries, count - first), std::min(k, vectors), visits,
                   chosen, executor);
    if (!pass.search(pieces)) return false;
    if (work) *work += pass.work();
    const StandardArithmetic standard;
    pass.write(distances, indices, k);
  }
  return true;
}

}  // namespace pyhue
