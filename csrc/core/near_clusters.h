// Where the thresholds of a search begin: the distances from each query to vectors that are likely to be among its
// nearest, of the clusters nearest to it and to its neighbours in the tile.
//
// The first filter ranks them by the bound of one stage, its threshold at the last of the best so far, and these alone
// are compared: distances, which cost most, are as few however many pieces the clusters are spread over.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "core/neighbors.h"
#include "core/screen.h"
#include "core/work.h"

namespace pyhue {

template <class Selection>
class NearClusters {
 public:
  // All must outlive it.
  NearClusters(int dim, const Queries& queries, const Tiles& tiles, const Screen& screen, const Selection& selection)
      : dim_(dim), queries_(queries), tiles_(tiles), screen_(screen), selection_(selection), kernels_(kernels()) {}

  // Of the query at each place of the tiles, distances to k different vectors that may be found, ascending, +inf where
  // its clusters have fewer: distances (tiles.queries(), k). Adds to `compared` how many were computed. Returns false
  // when interrupted.
  bool find(std::span<const Piece> pieces, int64_t k, float* distances, const Executor& executor,
            int64_t& compared) const {
    std::vector<Worker> workers(static_cast<size_t>(executor.workers));
    for (Worker& worker : workers) {
      worker.survivors.resize(static_cast<size_t>(Screen::most(kernels_)));
      worker.bounds = tiles_.bounds();
    }
    const bool finished = for_each_chunk(executor, tiles_.size(), [&](int64_t t, int w) {
      Worker& worker = workers[static_cast<size_t>(w)];
      rank(pieces, tiles_[t], kRanked * k, worker);
      compare(tiles_[t], k, worker, distances + tiles_[t].start * k);
    });
    for (const Worker& worker : workers) compared += worker.compared;
    return finished;
  }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  static constexpr int64_t kRanked = 2;  // candidates for each neighbour that is looked for; measured

  struct Candidate {
    float bound;
    const Piece* piece;
    int64_t row;
    // The root of a heap is the least likely one.
    friend bool operator<(const Candidate& a, const Candidate& b) { return a.bound > b.bound; }
  };

  struct Worker {
    std::vector<Survivor> survivors;
    std::vector<std::vector<Candidate>> candidates;  // of each query of the tile, a heap
    std::vector<QueryBound> bounds;                  // of all queries
    std::vector<int32_t> clusters;
    std::vector<float> distances;
    int64_t compared = 0;
  };

  int64_t query_at(int64_t place) const { return tiles_.order()[static_cast<size_t>(place)]; }

  void rank(std::span<const Piece> pieces, const Tile& tile, int64_t most, Worker& worker) const {
    worker.candidates.resize(static_cast<size_t>(tile.size));
    for (auto& candidates : worker.candidates) candidates.clear();
    worker.clusters.clear();
    for (int64_t place = tile.start; place < tile.start + tile.size; ++place) {
      const int32_t* nearest = queries_.clusters + query_at(place) * queries_.clusters_per_query;
      worker.clusters.insert(worker.clusters.end(), nearest, nearest + queries_.clusters_per_query);
    }
    std::sort(worker.clusters.begin(), worker.clusters.end());
    for (const Piece& piece : pieces) {
      if (!piece.cluster_starts) continue;
      int64_t next = 0;  // the first block that was not visited
      for (const int32_t cluster : worker.clusters) {
        for (next = std::max(next, piece.cluster_starts[cluster] / kBlock);
             next * kBlock < piece.cluster_starts[cluster + 1]; ++next) {
          rank_block(piece, next, tile, most, worker);
        }
      }
    }
  }

  void rank_block(const Piece& piece, int64_t block, const Tile& tile, int64_t most, Worker& worker) const {
    const int64_t* order = piece.order + block * kBlock;
    const int count = screen_.ranking(piece, block, tile, worker.bounds.data(), worker.survivors.data());
    for (int i = 0; i < count; ++i) {
      const Survivor& survivor = worker.survivors[static_cast<size_t>(i)];
      const int64_t row = order[survivor.lane];
      const int64_t place = tile.start + survivor.query;
      QueryBound& bound = worker.bounds[static_cast<size_t>(place)];
      if (!(survivor.bound > bound.threshold) || !selection_(query_at(place), piece.first + row)) continue;
      std::vector<Candidate>& best = worker.candidates[static_cast<size_t>(survivor.query)];
      if (static_cast<int64_t>(best.size()) == most) {
        std::pop_heap(best.begin(), best.end());
        best.pop_back();
      }
      best.push_back({survivor.bound, &piece, row});
      std::push_heap(best.begin(), best.end());
      if (static_cast<int64_t>(best.size()) == most) bound.threshold = best.front().bound;
    }
  }

  // Distances to the candidates of each query of the tile, the k smallest of each.
  void compare(const Tile& tile, int64_t k, Worker& worker, float* distances) const {
    for (int q = 0; q < tile.size; ++q, distances += k) {
      const float* query = queries_.vectors + query_at(tile.start + q) * dim_;
      std::vector<float>& found = worker.distances;
      found.clear();
      for (const Candidate& candidate : worker.candidates[static_cast<size_t>(q)]) {
        found.push_back(distance_to(kernels_, query, *candidate.piece, candidate.row, dim_));
      }
      worker.compared += static_cast<int64_t>(found.size());
      std::sort(found.begin(), found.end());
      found.resize(static_cast<size_t>(k), kInfinity);
      std::copy(found.begin(), found.end(), distances);
    }
  }

  int dim_;
  const Queries& queries_;
  const Tiles& tiles_;
  const Screen& screen_;
  const Selection& selection_;
  const Kernels& kernels_;
};

}  // namespace pyhue
