// A collector of search (pass.h): the k nearest of each query. Every worker has lists of its own.
#pragma once

#include <limits>
#include <vector>

#include "core/neighbors.h"

namespace pyhue {

class KBest {
 public:
  KBest(int64_t queries, int64_t k, int workers)
      : k_(k), queries_(queries), storage_(static_cast<size_t>(workers * queries * k)) {
    lists_.reserve(static_cast<size_t>(workers * queries));
    for (int64_t list = 0; list < workers * queries; ++list) lists_.emplace_back(storage_.data() + list * k, k);
  }

  // Nothing farther than this is wanted, before anything was found.
  float limit() const { return std::numeric_limits<float>::infinity(); }

  // How many candidates make the limit finite; 0: however many there are, it stays.
  int64_t enough() const { return k_; }

  // Returns the distance that a later vector may have at most, for this worker.
  float offer(int worker, int64_t query, Neighbor neighbor) {
    Neighbors& list = lists_[static_cast<size_t>(worker * queries_ + query)];
    list.offer(neighbor);
    return list.full() ? list.worst().distance : limit();
  }

  // What all workers found: query i goes to row order[i] of distances and indices (rows, stride); k of each row are
  // written, as far as there are so many.
  void write(const std::vector<int64_t>& order, float* distances, int64_t* indices, int64_t stride) const {
    std::vector<Neighbor> merged;
    for (int64_t query = 0; query < queries_; ++query) {
      merged.clear();
      for (size_t list = static_cast<size_t>(query); list < lists_.size(); list += static_cast<size_t>(queries_)) {
        merged.insert(merged.end(), lists_[list].begin(), lists_[list].end());
      }
      std::sort(merged.begin(), merged.end());
      merged.resize(std::min(merged.size(), static_cast<size_t>(k_)));
      const int64_t row = order[static_cast<size_t>(query)] * stride;
      for (size_t j = 0; j < merged.size(); ++j) {
        distances[row + static_cast<int64_t>(j)] = merged[j].distance;
        indices[row + static_cast<int64_t>(j)] = merged[j].index;
      }
    }
  }

 private:
  int64_t k_, queries_;
  std::vector<Neighbor> storage_;
  std::vector<Neighbors> lists_;
};

}  // namespace pyhue
