// One pass of up to kPassQueries queries through a memory: made (begin), given pieces any number of times, and asked
// for what it collected (end). Thresholds carry over from piece to piece, so the order of pieces decides the speed
// only.
//
//     Collector  what is wanted of the vectors: the k nearest (k_best.h)
//     Selection  which vectors may be found: all, or those of a mask and of other groups (selection.h)
//
// Both are parameters, so that another kind of search is another collector, and a filter another selection. Queries go
// by their place in the tiles' order.
#pragma once

#include <atomic>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/bound.h"
#include "core/first_blocks.h"
#include "core/near_clusters.h"
#include "core/neighbors.h"
#include "core/screen.h"
#include "core/work.h"

namespace pyhue {

template <class Collector, class Selection>
class Pass {
 public:
  // Queries first .. first + count - 1. `queries` and `executor` must outlive it.
  Pass(int dim, const Layout& layout, const Queries& queries, int64_t first, int64_t count, Collector collector,
       Selection selection, const Executor& executor)
      : dim_(dim),
        layout_(layout),
        queries_(queries),
        collector_(std::move(collector)),
        selection_(selection),
        executor_(executor),
        kernels_(kernels()),
        tiles_(queries, first, count, layout_, kernels_, executor),
        screen_(layout_, tiles_),
        shared_(static_cast<size_t>(count)),
        workers_(static_cast<size_t>(executor.workers)) {
    const StandardArithmetic standard;
    for (auto& distance : shared_) distance.store(collector_.limit(), std::memory_order_relaxed);
    for (Worker& worker : workers_) {
      worker.survivors.resize(static_cast<size_t>(Screen::most(kernels_)));
      worker.bounds = tiles_.bounds();
      worker.distances.assign(static_cast<size_t>(count), kUnlimited);
      worker.histories.resize(static_cast<size_t>(tiles_.size()));
    }
  }

  // Goes through some pieces. Returns false when interrupted: then the pass is not to be used any more.
  bool search(std::span<const Piece> pieces) { return tiles_.complete() && visit_all(pieces); }

  // The `enough` smallest distances of the query at each place to vectors of its nearest clusters (near_clusters.h).
  bool near(std::span<const Piece> pieces, float* distances) {
    if (!tiles_.complete()) return false;
    if (queries_.clusters_per_query == 0) {
      std::fill(distances, distances + tiles_.queries() * collector_.enough(), kUnlimited);
      return true;
    }
    int64_t compared = 0;
    const bool finished = NearClusters<Selection>(dim_, queries_, tiles_, screen_, selection_)
                              .find(pieces, collector_.enough(), distances, executor_, compared);
    workers_.front().work += {compared, compared * dim_, compared, compared};
    return finished;
  }

  // Nothing farther is wanted for the query at a place. Called before `search`.
  void limit(int64_t place, float distance) { at(shared_, place).store(distance, std::memory_order_relaxed); }

  const Collector& collected() const { return collector_; }
  // The query at each place.
  const std::vector<int64_t>& order() const { return tiles_.order(); }
  Work work() const {
    Work sum;
    for (const Worker& worker : workers_) sum += worker.work;
    return sum;
  }

 private:
  static constexpr float kUnlimited = std::numeric_limits<float>::infinity();
  static constexpr int64_t kChunkBytes = 384 * 1024;  // of packed memory: stays in the second-level cache
  static constexpr int64_t kItemsPerWorker = 8;       // enough work items that nobody waits long at the end

  struct Worker {
    std::vector<Survivor> survivors;
    std::vector<QueryBound> bounds;
    std::vector<float> distances;         // what bounds[place].threshold stands for
    std::vector<StageHistory> histories;  // of each tile
    FirstBlocks first;
    Work work;
  };

  // Blocks of one piece that are gone through together.
  struct Chunk {
    const Piece* piece;
    int64_t begin, end;
  };

  bool visit_all(std::span<const Piece> pieces) {
    const int64_t wanted = executor_.workers == 1 ? 1 : executor_.workers * kItemsPerWorker;
    const std::vector<Chunk> chunks = chunks_of(pieces, wanted);
    // With many tiles and a small memory the queries are shared out instead: each then has one worker, whose
    // threshold falls twice as fast.
    const int64_t count = std::max<int64_t>(1, static_cast<int64_t>(chunks.size()));
    const int64_t groups = std::clamp<int64_t>((wanted + count - 1) / count, 1, std::max<int64_t>(1, tiles_.size()));
    return for_each_chunk(executor_, static_cast<int64_t>(chunks.size()) * groups, [&](int64_t item, int w) {
      Worker& worker = at(workers_, w);
      const Chunk& chunk = at(chunks, item / groups);
      const int64_t group = item % groups;
      for (int64_t t = tiles_.size() * group / groups; t < tiles_.size() * (group + 1) / groups; ++t) {
        tighten(worker, tiles_[t]);
        int64_t block = chunk.begin;
        const bool unlimited = at(worker.distances, tiles_[t].start) == kUnlimited && collector_.enough() > 0;
        if (unlimited && chunk.piece->packed) block = begin(w, t, chunk);
        for (; block < chunk.end; ++block) visit(w, t, *chunk.piece, block);
        publish(worker, tiles_[t]);
      }
    });
  }

  std::vector<Chunk> chunks_of(std::span<const Piece> pieces, int64_t wanted) const {
    std::vector<Chunk> chunks;
    int64_t all = 0;
    for (const Piece& piece : pieces) all += piece.blocks();
    for (const Piece& piece : pieces) {
      const int64_t bytes = piece.packed ? screen_.block_bytes() : kBlock * dim_ * (piece.bfloat16 ? 2 : 4);
      const int64_t fitting = std::max<int64_t>(1, kChunkBytes / bytes), blocks = piece.blocks();
      const int64_t size =
          tiles_.size() >= wanted ? std::min(blocks, fitting) : std::clamp<int64_t>(all / wanted, 1, fitting);
      for (int64_t begin = 0; begin < blocks; begin += size) {
        chunks.push_back({&piece, begin, std::min(blocks, begin + size)});
      }
    }
    return chunks;
  }

  // Goes through the first blocks of a chunk while there is no threshold; returns the block to go on from.
  int64_t begin(int w, int64_t t, const Chunk& chunk) {
    const Tile tile = tiles_[t];
    const Piece& piece = *chunk.piece;
    Worker& worker = at(workers_, w);
    FirstBlocks& first = worker.first;
    const int64_t end = std::min(chunk.end, chunk.begin + FirstBlocks::kMost), enough = collector_.enough();
    first.read(screen_, piece, chunk.begin, end, tile, worker.bounds.data(), enough);
    const int64_t pairs = tile.size * std::min(piece.n - chunk.begin * kBlock, (end - chunk.begin) * kBlock);
    worker.work += {pairs, pairs * layout_.block_dims(), 0, 0};
    for (int q = 0; q < tile.size; ++q) {
      const int64_t place = tile.start + q, query = at(tiles_.order(), place);
      if constexpr (Selection::kEvery) {
        const double squared_norm = queries_.coordinates.squared_norms[query];
        lower(worker, place, farthest_distance(squared_norm, first.kth(q), dim_));
      }
      const std::span<FirstBlocks::Candidate> found =
          first.candidates(q, at(worker.bounds, place).threshold, 2 * enough,
                           [&](int64_t position) { return selection_(query, piece.first + piece.order[position]); });
      worker.work.survivors += static_cast<int64_t>(found.size());
      for (const auto& candidate : found) prefetch(piece, piece.order[candidate.position], dim_);
      for (const auto& candidate : found) {
        if (!(candidate.bound < at(worker.bounds, place).threshold))
          refine(w, place, piece, piece.order[candidate.position]);
      }
    }
    return end;
  }

  void visit(int w, int64_t t, const Piece& piece, int64_t block) {
    const Tile tile = tiles_[t];
    const int64_t* order = piece.order + block * kBlock;
    if (!piece.packed) return visit_unpacked(w, tile, piece, order, piece.lanes(block));
    Worker& worker = at(workers_, w);
    Survivor* survivors = worker.survivors.data();
    int64_t read = 0;
    const int left = screen_.blocks(piece, block, tile, worker.bounds.data(), at(worker.histories, t), survivors, read);
    const int64_t pairs = tile.size * piece.lanes(block);
    worker.work += {pairs, tile.size * read, left, 0};
    const int found = selected(tile, piece, order, survivors, left);
    if (found == 0) return;
    const int kept = screen_.rows(piece, block, tile, worker.bounds.data(), survivors, found);
    for (int i = 0; i < kept; ++i) prefetch(piece, order[survivors[i].lane], dim_);
    for (int i = 0; i < kept; ++i) {
      const int64_t place = tile.start + survivors[i].query;
      // The refines before may have raised the threshold.
      if (!(survivors[i].bound < at(worker.bounds, place).threshold)) {
        refine(w, place, piece, order[survivors[i].lane]);
      }
    }
  }

  // Drops survivors that are not to be found; returns how many stay.
  int selected(const Tile& tile, const Piece& piece, const int64_t* order, Survivor* survivors, int count) const {
    if constexpr (Selection::kEvery) return count;
    return static_cast<int>(std::remove_if(survivors, survivors + count,
                                           [&](const Survivor& survivor) {
                                             return !selection_(at(tiles_.order(), tile.start + survivor.query),
                                                                piece.first + order[survivor.lane]);
                                           }) -
                            survivors);
  }

  void visit_unpacked(int w, const Tile& tile, const Piece& piece, const int64_t* order, int64_t lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t place = tile.start; place < tile.start + tile.size; ++place) {
        if (!selection_(at(tiles_.order(), place), piece.first + order[lane])) continue;
        at(workers_, w).work += {1, dim_, 1, 0};
        refine(w, place, piece, order[lane]);
      }
    }
  }

  void refine(int w, int64_t place, const Piece& piece, int64_t row) {
    const int64_t query = at(tiles_.order(), place), index = piece.first + row;
    const float distance = distance_to(kernels_, queries_.vectors + query * dim_, piece, row, dim_);
    ++at(workers_, w).work.compared;
    lower(at(workers_, w), place, collector_.offer(w, place, {distance, index}));
  }

  // Tells the other workers the thresholds that this one reached.
  void publish(const Worker& worker, const Tile& tile) {
    for (int64_t place = tile.start; place < tile.start + tile.size; ++place) {
      const float distance = at(worker.distances, place);
      std::atomic<float>& shared = at(shared_, place);
      float known = shared.load(std::memory_order_relaxed);
      while (distance < known && !shared.compare_exchange_weak(known, distance, std::memory_order_relaxed)) {
      }
    }
  }

  // Takes over the thresholds that other workers reached.
  void tighten(Worker& worker, const Tile& tile) {
    for (int64_t place = tile.start; place < tile.start + tile.size; ++place) {
      lower(worker, place, at(shared_, place).load(std::memory_order_relaxed));
    }
  }

  void lower(Worker& worker, int64_t place, float distance) {
    if (!(distance < at(worker.distances, place))) return;
    at(worker.distances, place) = distance;
    const double squared_norm = queries_.coordinates.squared_norms[at(tiles_.order(), place)];
    at(worker.bounds, place).threshold = screening_threshold(squared_norm, distance, dim_);
  }

  int dim_;
  Layout layout_;
  const Queries& queries_;
  Collector collector_;
  Selection selection_;
  const Executor& executor_;
  const Kernels& kernels_;
  Tiles tiles_;
  Screen screen_;
  std::vector<std::atomic<float>> shared_;  // each query's limit so far, the best of all workers
  std::vector<Worker> workers_;
};

}  // namespace pyhue
