// Searches and additions at once, for ThreadSanitizer: one thread appends vectors and publishes snapshots, others
// search the newest, as pyhue/_search does it. What they find is compared with an unpacked search of the same snapshot.
#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "bindings/thread_pool.h"
#include "core/density.h"
#include "core/search.h"

namespace pyhue {
namespace {

constexpr int kDim = 200, kReaders = 3;
constexpr int kBlockEnds[] = {64, 128}, kRowEnds[] = {128, kDim};
const std::vector<double> kSteps(kDim, 1.0 / 32);
const Layout kLayout = {kBlockEnds, 2, 64, kRowEnds, 2, kSteps.data()};
constexpr int64_t kMost = 4096, kStep = 160, kQueries = 15, kNearest = 7;

// The packed form of rows begin .. end - 1.
struct PackedRows {
  std::vector<int64_t> order;
  std::vector<uint8_t> blocks, rows;
  std::vector<float> bounds, row_bounds;

  PackedRows(const Layout& layout, const float* vectors, int64_t begin, int64_t end) {
    const int64_t n = end - begin, count = (n + kBlock - 1) / kBlock;
    for (int64_t row = begin; row < end; ++row) order.push_back(row);
    blocks.resize(static_cast<size_t>(count * layout.block_bytes()));
    bounds.resize(static_cast<size_t>(count * layout.block_terms() * kBlock));
    rows.resize(static_cast<size_t>(n * layout.padded_row_dims()));
    row_bounds.resize(static_cast<size_t>(n * layout.row_stages * kStageTerms));
    const std::vector<double> values(vectors + begin * kDim, vectors + end * kDim);
    const std::vector<double> norms = squared_norms(values);
    pack(layout, {values.data(), norms.data(), n, 0}, 0, {blocks.data(), bounds.data(), rows.data(), row_bounds.data()},
         pool_executor(nullptr, nullptr));
  }

  static std::vector<double> squared_norms(const std::vector<double>& values) {
    std::vector<double> norms(values.size() / kDim);
    for (size_t i = 0; i < values.size(); ++i) norms[i / kDim] += values[i] * values[i];
    return norms;
  }

  Piece piece(const float* vectors) const {
    return {vectors,
            false,
            0,
            static_cast<int64_t>(order.size()),
            order.data(),
            true,
            {blocks.data(), bounds.data(), rows.data(), row_bounds.data()},
            nullptr};
  }
};

struct Snapshot {
  std::vector<std::shared_ptr<const PackedRows>> packed;
  std::vector<int64_t> rest;  // rows that are not packed
};

// The newest snapshot: one assignment, as under Python's lock.
class Newest {
 public:
  std::shared_ptr<const Snapshot> load() {
    std::lock_guard lock(mutex_);
    return snapshot_;
  }
  void store(std::shared_ptr<const Snapshot> snapshot) {
    std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<const Snapshot>();
};

struct Found {
  std::vector<float> distances = std::vector<float>(kQueries * kNearest);
  std::vector<int64_t> indices = std::vector<int64_t>(kQueries * kNearest);
};

Found search_pieces(const std::vector<Piece>& pieces, const std::vector<float>& vectors) {
  const std::vector<double> values(vectors.begin(), vectors.end());
  const std::vector<double> norms = PackedRows::squared_norms(values);
  const Queries queries = {vectors.data(), {values.data(), norms.data(), kQueries, 0}, nullptr, 0};
  Found found;
  search(pieces, kDim, kLayout, queries, kQueries, kNearest, nullptr, found.distances.data(), found.indices.data(),
         nullptr, pool_executor(nullptr, [](void*) { return false; }));
  return found;
}

int run() {
  set_num_threads(2);
  std::mt19937 random(0);
  const auto draw = [&] { return static_cast<float>(random() % 5); };  // many ties
  std::vector<float> vectors(kMost * kDim);                            // what grows: only ever behind what is seen
  Newest newest;
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0}, searches{0};

  std::vector<std::thread> readers;
  for (unsigned seed = 1; seed <= kReaders; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 own(seed);
      std::vector<float> queries(kQueries * kDim);
      for (float& value : queries) value = static_cast<float>(own() % 5);
      do {
        const std::shared_ptr<const Snapshot> seen = newest.load();
        std::vector<Piece> pieces;
        std::vector<int64_t> every;
        for (const auto& packed : seen->packed) {
          pieces.push_back(packed->piece(vectors.data()));
          every.insert(every.end(), packed->order.begin(), packed->order.end());
        }
        every.insert(every.end(), seen->rest.begin(), seen->rest.end());
        const auto unpacked = [&](const std::vector<int64_t>& rows) {
          return Piece{vectors.data(), false, 0, static_cast<int64_t>(rows.size()), rows.data(), false, {}, nullptr};
        };
        pieces.push_back(unpacked(seen->rest));
        const Found found = search_pieces(pieces, queries), expected = search_pieces({unpacked(every)}, queries);
        wrong += found.distances != expected.distances || found.indices != expected.indices;
        ++searches;
      } while (!done.load());
    });
  }

  for (int64_t n = 0; n + kStep <= kMost; n += kStep) {
    for (int64_t i = n * kDim; i < (n + kStep) * kDim; ++i) vectors[static_cast<size_t>(i)] = draw();
    auto next = std::make_shared<Snapshot>(*newest.load());
    for (int64_t row = n; row < n + kStep; ++row) next->rest.push_back(row);
    newest.store(next);
    if (n / kStep % 3 != 2) continue;
    auto packed = std::make_shared<Snapshot>(*next);
    packed->packed.push_back(
        std::make_shared<const PackedRows>(kLayout, vectors.data(), packed->rest.front(), n + kStep));
    packed->rest.clear();
    newest.store(packed);
  }
  done.store(true);
  for (std::thread& reader : readers) reader.join();
  std::printf("%d searches beside %lld additions, %d wrong\n", searches.load(), static_cast<long long>(kMost / kStep),
              wrong.load());
  return wrong.load() != 0;
}

}  // namespace
}  // namespace pyhue

int main() { return pyhue::run(); }
