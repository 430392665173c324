#include "core/search.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/isa.h"
#include "core/kernels.h"
#include "core/neighbors.h"

namespace pyhue {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kBatch = 1008;             // queries in a pass: bounds the scratch memory
constexpr int64_t kChunkBytes = 384 * 1024;  // of packed memory: stays in the second-level cache
constexpr int64_t kItemsPerWorker = 8;       // enough work items that nobody waits long at the end

// The smallest value of bound >= threshold that a vector of computed distance <= `distance` can have.
float screening_threshold(double squared_norm, float distance, int dim) {
  if (distance == kInfinity) return -kInfinity;
  // The computed distance is at least (1 - (dim / 32 + 8) 2^-24) of the exact one, less what underflowed.
  const double farthest = (distance + dim * 1e-37) * (1 + std::ldexp(dim / 16.0 + 16, -24));
  const double threshold = (squared_norm - farthest) / 2;
  const double rounding = 1e-12 * (squared_norm + farthest) + dim * 1e-37;
  return std::nextafterf(static_cast<float>(threshold - rounding), -kInfinity);
}

// Queries of one pass, cut in tiles, with the pairs of a tile's queries beside each other.
class Panels {
 public:
  Panels(const SearchQueries& queries, int64_t first, int64_t count, int dims, const Kernels& kernels)
      : count_(count), dims_(dims), kernels_(kernels), data_(count * dims * kernels.panel_element_size) {
    for (int64_t tile = 0; tile < tiles(); ++tile) {
      for (int k = 0; k < dims / 2; ++k) {
        for (int q = 0; q < size(tile); ++q) {
          const uint16_t* pair = queries.prefixes + (first + start(tile) + q) * dims + 2 * k;
          write(pair, start(tile) * dims + (int64_t{k} * size(tile) + q) * 2);
        }
      }
    }
  }

  int64_t tiles() const { return (count_ + kernels_.tile_queries - 1) / kernels_.tile_queries; }
  int64_t start(int64_t tile) const { return tile * kernels_.tile_queries; }
  int size(int64_t tile) const {
    return static_cast<int>(std::min<int64_t>(kernels_.tile_queries, count_ - start(tile)));
  }
  const void* data(int64_t tile) const { return data_.data() + start(tile) * dims_ * kernels_.panel_element_size; }

 private:
  void write(const uint16_t* pair, int64_t element) {
    char* to = data_.data() + element * kernels_.panel_element_size;
    if (kernels_.panel_element_size == 2) {
      std::memcpy(to, pair, 4);
    } else {
      const uint32_t widened[2] = {uint32_t{pair[0]} << 16, uint32_t{pair[1]} << 16};
      std::memcpy(to, widened, 8);
    }
  }

  int64_t count_;
  int dims_;
  const Kernels& kernels_;
  std::vector<char> data_;
};

// One pass: up to kBatch queries against the whole memory.
class Pass {
 public:
  Pass(const SearchMemory& memory, const SearchQueries& queries, int64_t first, int64_t count, int64_t k, int workers)
      : memory_(memory),
        kernels_(kernels()),
        dims_(padded(memory.prefix)),
        query_vectors_(queries.vectors + first * memory.dim),
        packed_(queries.packed + first),
        count_(count),
        k_(k),
        panels_(queries, first, count, dims_, kernels_),
        shared_(count),
        storage_(static_cast<size_t>(workers * count * k)),
        workers_(static_cast<size_t>(workers)) {
    for (auto& threshold : shared_) threshold.store(kInfinity, std::memory_order_relaxed);
    for (int w = 0; w < workers; ++w) {
      Worker& worker = workers_[static_cast<size_t>(w)];
      worker.survivors.resize(static_cast<size_t>(kernels_.tile_queries) * kBlock);
      worker.neighbors.reserve(static_cast<size_t>(count));
      for (int64_t q = 0; q < count; ++q) {
        worker.neighbors.emplace_back(storage_.data() + (w * count + q) * k, k);
        worker.bounds.push_back({packed_[q].norm_factor, packed_[q].error_factor, packed_[q].tail_factor, -kInfinity});
        worker.thresholds.push_back(kInfinity);
      }
    }
  }

  bool run(const Executor& executor) {
    const int64_t blocks = (memory_.n + kBlock - 1) / kBlock;
    const int64_t wanted = executor.workers * kItemsPerWorker;
    const int64_t fitting = std::max<int64_t>(1, kChunkBytes / (int64_t{dims_} * kBlock * 2));
    const int64_t blocks_per_chunk = std::clamp<int64_t>(blocks / wanted, 1, fitting);
    const int64_t chunks = (blocks + blocks_per_chunk - 1) / blocks_per_chunk;
    // A small memory has few chunks: share out the queries too.
    const int64_t groups = std::clamp<int64_t>(wanted / chunks, 1, panels_.tiles());
    return for_each_chunk(executor, chunks * groups, [&](int64_t item, int worker) {
      const int64_t chunk = item / groups, group = item % groups;
      const int64_t last = std::min(blocks, (chunk + 1) * blocks_per_chunk);
      for (int64_t tile = panels_.tiles() * group / groups; tile < panels_.tiles() * (group + 1) / groups; ++tile) {
        tighten(workers_[static_cast<size_t>(worker)], tile);
        for (int64_t block = chunk * blocks_per_chunk; block < last; ++block) {
          screen(workers_[static_cast<size_t>(worker)], tile, block);
        }
      }
    });
  }

  // Merges what the workers found.
  void write(float* distances, int64_t* indices) {
    std::vector<Neighbor> merged;
    for (int64_t q = 0; q < count_; ++q) {
      merged.clear();
      for (const Worker& worker : workers_) {
        const Neighbors& found = worker.neighbors[static_cast<size_t>(q)];
        merged.insert(merged.end(), found.begin(), found.end());
      }
      std::sort(merged.begin(), merged.end());
      merged.resize(static_cast<size_t>(k_), Neighbor{kInfinity, -1});
      for (int64_t j = 0; j < k_; ++j) {
        distances[q * k_ + j] = merged[static_cast<size_t>(j)].distance;
        indices[q * k_ + j] = merged[static_cast<size_t>(j)].index;
      }
    }
  }

 private:
  struct Worker {
    std::vector<Survivor> survivors;
    std::vector<Neighbors> neighbors;
    std::vector<QueryBound> bounds;
    std::vector<float> thresholds;  // distance that bounds[q].threshold stands for
  };

  void screen(Worker& worker, int64_t tile, int64_t block) {
    const int64_t start = panels_.start(tile);
    const int count = kernels_.screen_tile(
        memory_.blocks + block * dims_ * kBlock, memory_.bounds + block * kBoundTerms * kBlock, panels_.data(tile),
        worker.bounds.data() + start, panels_.size(tile), dims_, worker.survivors.data());
    for (int i = 0; i < count; ++i) {
      if (i + 1 < count) prefetch(block * kBlock + worker.survivors[static_cast<size_t>(i) + 1].lane);
      const Survivor& survivor = worker.survivors[static_cast<size_t>(i)];
      refine(worker, start + survivor.query, block * kBlock + survivor.lane);
    }
  }

  void prefetch(int64_t index) const {
    const char* row = reinterpret_cast<const char*>(memory_.vectors + std::min(index, memory_.n - 1) * memory_.dim);
    for (int64_t byte = 0; byte < std::min<int64_t>(512, memory_.dim * 4); byte += 64) __builtin_prefetch(row + byte);
  }

  void refine(Worker& worker, int64_t query, int64_t index) {
    if (index >= memory_.n) return;  // padding of the last block
    const float distance = kernels_.squared_distance(query_vectors_ + query * memory_.dim,
                                                     memory_.vectors + index * memory_.dim, memory_.dim);
    Neighbors& neighbors = worker.neighbors[static_cast<size_t>(query)];
    if (neighbors.offer({distance, index}) && neighbors.full()) {
      lower(worker, query, neighbors.worst().distance);
    }
  }

  // Takes over the thresholds that other workers reached.
  void tighten(Worker& worker, int64_t tile) {
    for (int64_t q = panels_.start(tile); q < panels_.start(tile) + panels_.size(tile); ++q) {
      const float shared = shared_[static_cast<size_t>(q)].load(std::memory_order_relaxed);
      if (shared < worker.thresholds[static_cast<size_t>(q)]) lower(worker, q, shared);
    }
  }

  void lower(Worker& worker, int64_t query, float distance) {
    const size_t q = static_cast<size_t>(query);
    if (!(distance < worker.thresholds[q])) return;
    worker.thresholds[q] = distance;
    worker.bounds[q].threshold = screening_threshold(packed_[q].squared_norm, distance, memory_.dim);
    float shared = shared_[q].load(std::memory_order_relaxed);
    while (distance < shared && !shared_[q].compare_exchange_weak(shared, distance, std::memory_order_relaxed)) {
    }
  }

  const SearchMemory& memory_;
  const Kernels& kernels_;
  int dims_;
  const float* query_vectors_;
  const PackedQuery* packed_;
  int64_t count_, k_;
  Panels panels_;
  std::vector<std::atomic<float>> shared_;  // each query's k-th distance so far, the best of all workers
  std::vector<Neighbor> storage_;
  std::vector<Worker> workers_;
};

}  // namespace

bool search(const SearchMemory& memory, const SearchQueries& queries, int64_t k, float* distances, int64_t* indices,
            const Executor& executor) {
  const int64_t kept = std::min(k, memory.n);
  std::fill(distances, distances + queries.n * k, kInfinity);
  std::fill(indices, indices + queries.n * k, int64_t{-1});
  std::vector<float> pass_distances(static_cast<size_t>(std::min(kBatch, queries.n) * kept));
  std::vector<int64_t> pass_indices(pass_distances.size());
  for (int64_t first = 0; first < queries.n; first += kBatch) {
    const int64_t count = std::min(kBatch, queries.n - first);
    Pass pass(memory, queries, first, count, kept, executor.workers);
    if (!pass.run(executor)) return false;
    pass.write(pass_distances.data(), pass_indices.data());
    for (int64_t q = 0; q < count; ++q) {
      std::copy_n(pass_distances.data() + q * kept, kept, distances + (first + q) * k);
      std::copy_n(pass_indices.data() + q * kept, kept, indices + (first + q) * k);
    }
  }
  return true;
}

}  // namespace pyhue
