#include "core/search.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "core/isa.h"
#include "core/kernels.h"
#include "core/neighbors.h"
#include "core/screening.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kBatch = 1008;             // queries in a pass: bounds the scratch memory
constexpr int64_t kChunkBytes = 384 * 1024;  // of packed memory: stays in the second-level cache
constexpr int64_t kItemsPerWorker = 8;       // enough work items that nobody waits long at the end

template <class Vector>
auto& at(Vector& vector, int64_t i) {
  return vector[static_cast<size_t>(i)];
}

// The two filters: a tile against a block, a query against a row.
class Screen {
 public:
  Screen(const Memory& memory, const Tiles& tiles) : memory_(memory), tiles_(tiles), kernels_(kernels()) {}

  int64_t blocks() const { return (memory_.n + kBlock - 1) / kBlock; }
  int64_t block_bytes() const {
    return kBlock * 2 * (memory_.layout.padded_block_dims() + memory_.layout.padded_row_dims());
  }

  int tile(const Tile& tile, int64_t block, const QueryBound* bounds, Survivor* survivors) const {
    return kernels_.screen_tile(memory_.packed.blocks + block * memory_.layout.padded_block_dims() * kBlock,
                                terms(block), tile.dims.data(), tile.count, tile.panel.data(), bounds + tile.start,
                                tile.size, survivors);
  }

  // Drops the padding of the last block; returns how many stay.
  int without_padding(int64_t block, Survivor* survivors, int count) const {
    const int64_t lanes = memory_.n - block * kBlock;
    if (lanes >= kBlock) return count;
    const auto is_padding = [&](const Survivor& survivor) { return survivor.lane >= lanes; };
    return static_cast<int>(std::remove_if(survivors, survivors + count, is_padding) - survivors);
  }

  // Drops what the bounds over blocks and rows exclude; returns how many stay.
  int rows(const Tile& tile, int64_t block, const QueryBound* bounds, Survivor* survivors, int count) const {
    const Layout& layout = memory_.layout;
    const int64_t first = block * kBlock;
    for (int part = 0; part < kRowParts && layout.row_part(part) < layout.row_part(part + 1); ++part) {
      const int64_t stride = layout.padded_row_dims();
      const int begin = layout.row_part(part), end = layout.row_part(part + 1);
      const RowPart rows = {memory_.packed.rows + first * stride + begin,
                            tiles_.row(tile.start) + begin,
                            stride,
                            end - begin,
                            terms(block),
                            memory_.packed.row_bounds + (first * kRowParts + part) * 2,
                            2 * kRowParts,
                            tiles_.row_bounds(tile.start) + part,
                            kRowParts,
                            bounds + tile.start};
      count = kernels_.screen_rows(rows, survivors, count);
    }
    return count;
  }

 private:
  const float* terms(int64_t block) const { return memory_.packed.bounds + block * kBoundTerms * kBlock; }

  const Memory& memory_;
  const Tiles& tiles_;
  const Kernels& kernels_;
};

// One pass: up to kBatch queries against the whole memory. Queries go by their place in the tiles' order.
class Pass {
 public:
  Pass(const Memory& memory, const Queries& queries, int64_t first, int64_t count, int64_t k, const Executor& executor)
      : memory_(memory),
        queries_(queries),
        k_(k),
        executor_(executor),
        kernels_(kernels()),
        tiles_(queries, first, count, memory.layout, kernels_, executor),
        screen_(memory, tiles_),
        shared_(static_cast<size_t>(count)),
        storage_(static_cast<size_t>(executor.workers * count * k)),
        workers_(static_cast<size_t>(executor.workers)),
        visited_(static_cast<size_t>(tiles_.size())) {
    for (auto& distance : shared_) distance.store(kInfinity, std::memory_order_relaxed);
    Neighbor* storage = storage_.data();
    for (Worker& worker : workers_) {
      worker.survivors.resize(static_cast<size_t>(kernels_.tile_queries) * kBlock);
      worker.bounds = tiles_.bounds();
      worker.distances.assign(static_cast<size_t>(count), kInfinity);
      for (int64_t place = 0; place < count; ++place, storage += k) worker.neighbors.emplace_back(storage, k);
    }
  }

  bool run() { return tiles_.complete() && visit_clusters() && visit_all(); }

  // Merges what the workers found; distances and indices are those of query 0.
  void write(float* distances, int64_t* indices, int64_t stride) const {
    std::vector<Neighbor> merged;
    for (size_t place = 0; place < shared_.size(); ++place) {
      merged.clear();
      for (const Worker& worker : workers_) {
        merged.insert(merged.end(), worker.neighbors[place].begin(), worker.neighbors[place].end());
      }
      std::sort(merged.begin(), merged.end());
      const int64_t query = tiles_.order()[place];
      for (int64_t j = 0; j < k_; ++j) {
        distances[query * stride + j] = at(merged, j).distance;
        indices[query * stride + j] = at(merged, j).index;
      }
    }
  }

 private:
  struct Worker {
    std::vector<Survivor> survivors;
    std::vector<Neighbors> neighbors;
    std::vector<QueryBound> bounds;
    std::vector<float> distances;  // what bounds[place].threshold stands for
  };

  // Each tile against the clusters nearest to its queries.
  bool visit_clusters() {
    if (!memory_.cluster_starts || queries_.clusters_per_query == 0) return true;
    for (auto& visited : visited_) visited.resize(static_cast<size_t>(screen_.blocks()));
    return for_each_chunk(executor_, tiles_.size(), [&](int64_t t, int w) {
      std::vector<char>& visited = at(visited_, t);
      for (int rank = 0; rank < queries_.clusters_per_query; ++rank) {
        for (int64_t place = tiles_[t].start; place < tiles_[t].start + tiles_[t].size; ++place) {
          const int32_t cluster = queries_.clusters[at(tiles_.order(), place) * queries_.clusters_per_query + rank];
          const int64_t begin = memory_.cluster_starts[cluster], end = memory_.cluster_starts[cluster + 1];
          for (int64_t block = begin / kBlock; block * kBlock < end; ++block) {
            if (at(visited, block)) continue;
            at(visited, block) = 1;
            visit(at(workers_, w), tiles_[t], block);
          }
        }
      }
      publish(at(workers_, w), tiles_[t]);
    });
  }

  bool visit_all() {
    const int64_t blocks = screen_.blocks();
    const int64_t wanted = executor_.workers * kItemsPerWorker;
    const int64_t fitting = std::max<int64_t>(1, kChunkBytes / screen_.block_bytes());
    // With many tiles and a small memory the queries are shared out instead: each then has one worker, whose
    // threshold falls twice as fast.
    const int64_t blocks_per_chunk =
        tiles_.size() >= wanted ? std::min(blocks, fitting) : std::clamp<int64_t>(blocks / wanted, 1, fitting);
    const int64_t chunks = (blocks + blocks_per_chunk - 1) / blocks_per_chunk;
    const int64_t groups = std::clamp<int64_t>((wanted + chunks - 1) / chunks, 1, tiles_.size());
    return for_each_chunk(executor_, chunks * groups, [&](int64_t item, int w) {
      Worker& worker = at(workers_, w);
      const int64_t chunk = item / groups, group = item % groups;
      const int64_t last = std::min(blocks, (chunk + 1) * blocks_per_chunk);
      for (int64_t t = tiles_.size() * group / groups; t < tiles_.size() * (group + 1) / groups; ++t) {
        tighten(worker, tiles_[t]);
        const std::vector<char>& visited = at(visited_, t);
        for (int64_t block = chunk * blocks_per_chunk; block < last; ++block) {
          if (visited.empty() || !at(visited, block)) visit(worker, tiles_[t], block);
        }
        publish(worker, tiles_[t]);
      }
    });
  }

  void visit(Worker& worker, const Tile& tile, int64_t block) {
    Survivor* survivors = worker.survivors.data();
    const int found = screen_.tile(tile, block, worker.bounds.data(), survivors);
    if (found == 0) return;
    const int kept =
        screen_.rows(tile, block, worker.bounds.data(), survivors, screen_.without_padding(block, survivors, found));
    const int64_t* order = memory_.order + block * kBlock;
    if (!at(worker.neighbors, tile.start).full()) best_first(survivors, kept, tile.size);
    for (int i = 0; i < kept; ++i) prefetch(order[survivors[i].lane]);
    for (int i = 0; i < kept; ++i) {
      const int64_t place = tile.start + survivors[i].query;
      // The refines before may have raised the threshold.
      if (!(survivors[i].bound < at(worker.bounds, place).threshold)) refine(worker, place, order[survivors[i].lane]);
    }
  }

  // While every vector survives for want of a threshold: the likeliest neighbours come first, and the threshold
  // that they give excludes most of the others.
  void best_first(Survivor* survivors, int count, int queries) const {
    const int64_t likely = std::min<int64_t>(count, k_ * queries);
    const auto rank = [](const Survivor& survivor) { return std::isnan(survivor.bound) ? kInfinity : survivor.bound; };
    std::nth_element(survivors, survivors + likely, survivors + count,
                     [&](const Survivor& a, const Survivor& b) { return rank(a) > rank(b); });
  }

  const char* vector(int64_t index) const {
    return static_cast<const char*>(memory_.vectors) + index * memory_.dim * (memory_.bfloat16 ? 2 : 4);
  }

  void prefetch(int64_t index) const {
    for (int byte = 0; byte < std::min(512, memory_.dim * 2); byte += 64) __builtin_prefetch(vector(index) + byte);
  }

  void refine(Worker& worker, int64_t place, int64_t index) {
    const float* query = queries_.vectors + at(tiles_.order(), place) * memory_.dim;
    const SquaredDistance distance_to =
        memory_.bfloat16 ? kernels_.squared_distance_bfloat16 : kernels_.squared_distance;
    const float distance = distance_to(query, vector(index), memory_.dim);
    Neighbors& neighbors = at(worker.neighbors, place);
    if (neighbors.offer({distance, index}) && neighbors.full()) lower(worker, place, neighbors.worst().distance);
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
    at(worker.bounds, place).threshold = screening_threshold(squared_norm, distance, memory_.dim);
  }

  const Memory& memory_;
  const Queries& queries_;
  int64_t k_;
  const Executor& executor_;
  const Kernels& kernels_;
  Tiles tiles_;
  Screen screen_;
  std::vector<std::atomic<float>> shared_;  // each query's k-th distance so far, the best of all workers
  std::vector<Neighbor> storage_;
  std::vector<Worker> workers_;
  std::vector<std::vector<char>> visited_;  // of each tile: the blocks seen with its clusters
};

}  // namespace

bool search(const Memory& memory, const Queries& queries, int64_t count, int64_t k, float* distances, int64_t* indices,
            const Executor& executor) {
  std::fill(distances, distances + count * k, kInfinity);
  std::fill(indices, indices + count * k, int64_t{-1});
  for (int64_t first = 0; first < count; first += kBatch) {
    Pass pass(memory, queries, first, std::min(kBatch, count - first), std::min(k, memory.n), executor);
    if (!pass.run()) return false;
    pass.write(distances, indices, k);
  }
  return true;
}

double audit(const Memory& memory, const Queries& queries, int64_t count, const float* distances, uint8_t* stages,
             const Executor& executor) {
  std::fill(stages, stages + count * memory.n, uint8_t{0});
  const Tiles tiles(queries, 0, count, memory.layout, kernels(), executor);
  const Screen screen(memory, tiles);
  std::vector<QueryBound> bounds = tiles.bounds();
  for (int64_t place = 0; place < count; ++place) {
    const int64_t query = at(tiles.order(), place);
    at(bounds, place).threshold =
        screening_threshold(queries.coordinates.squared_norms[query], distances[query], memory.dim);
  }
  std::vector<Survivor> survivors(static_cast<size_t>(kernels().tile_queries) * kBlock);
  for (int64_t t = 0; t < tiles.size(); ++t) {
    for (int64_t block = 0; block < screen.blocks(); ++block) {
      const auto mark = [&](int count, uint8_t stage) {
        for (int i = 0; i < count; ++i) {
          const int64_t query = at(tiles.order(), tiles[t].start + at(survivors, i).query);
          stages[query * memory.n + memory.order[block * kBlock + at(survivors, i).lane]] = stage;
        }
      };
      const Tile& tile = tiles[t];
      int found = screen.tile(tile, block, bounds.data(), survivors.data());
      found = screen.without_padding(block, survivors.data(), found);
      mark(found, 1);
      mark(screen.rows(tile, block, bounds.data(), survivors.data(), found), 2);
    }
  }
  double dims = 0;
  for (int64_t t = 0; t < tiles.size(); ++t) dims += tiles[t].count;
  return dims / static_cast<double>(std::max<int64_t>(1, tiles.size()));
}

}  // namespace pyhue
