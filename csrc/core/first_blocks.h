// The first blocks that a tile goes through while nothing is known of how near its nearest neighbours are: all bounds
// are kept, until the blocks themselves have told which of them matter.
//
// int8 products bound every score <z_q, z_x> - |z_x|^2 / 2 from below as they do from above. Of each lane the largest
// of the lower bounds is kept: so many scores of different vectors, and the k-th largest of them is nearly the k-th
// largest of all, for the best are seldom in one lane. What is below it cannot be among the k nearest. That is one
// maximum for each pair; a heap would take a branch, and distances of what it holds.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "core/screen.h"

namespace pyhue {

class FirstBlocks {
 public:
  static constexpr int64_t kMost = 64;  // blocks, whose bounds stay in the second-level cache

  struct Candidate {
    float bound;
    int64_t position;
  };

  // Blocks begin .. end - 1, at most kMost.
  void read(const Screen& screen, const Piece& piece, int64_t begin, int64_t end, const Tile& tile,
            const QueryBound* of_queries, int64_t k) {
    first_ = begin * kBlock;
    padded_ = (end - begin) * kBlock;
    count_ = std::min(piece.n - first_, padded_);
    k_ = k;
    bounds_.resize(static_cast<size_t>(tile.size * padded_));
    positions_.resize(static_cast<size_t>(padded_ + kAhead));
    // Runs of blocks that keep a maximum for each lane: kMaxima in all for each of the k, if there are so many.
    const int64_t whole = count_ / kBlock;
    runs_ = std::min(whole, (kMaxima * k - 1) / kBlock + 1);
    queries_ = tile.size;
    least_.assign(static_cast<size_t>((runs_ + 1) * queries_ * kBlock), -kInfinity);
    for (int64_t block = 0; block < end - begin; ++block) {
      const int64_t run = block < whole ? block * runs_ / whole : runs_;  // of padding nothing is known
      screen.bounds(piece, begin + block, tile, of_queries, bounds_.data() + block * kBlock, padded_,
                    least_.data() + run * queries_ * kBlock);
    }
  }

  // What the k-th largest score of a query is at least.
  float kth(int query) {
    if (runs_ * kBlock < k_) return -kInfinity;
    best_.clear();
    for (int64_t run = 0; run < runs_; ++run) {
      const float* least = least_.data() + (run * queries_ + query) * kBlock;
      best_.insert(best_.end(), least, least + kBlock);
    }
    return kernels_.kth_largest(best_.data(), static_cast<int64_t>(best_.size()), k_);
  }

  // What a threshold leaves of a query's bounds and `may_be_found` allows; if it is more than `most`, the largest half
  // of so many first.
  template <class MayBeFound>
  std::span<Candidate> candidates(int query, float threshold, int64_t most, MayBeFound may_be_found) {
    const float* bounds = bounds_.data() + query * padded_;
    const int found = kernels_.not_below(bounds, padded_, threshold, positions_.data());
    candidates_.clear();
    for (int i = 0; i < found; ++i) {
      const int32_t position = positions_[static_cast<size_t>(i)];
      if (position < count_ && may_be_found(first_ + position))
        candidates_.push_back({bounds[position], first_ + position});
    }
    if (static_cast<int64_t>(candidates_.size()) > most) {
      std::nth_element(
          candidates_.begin(), candidates_.begin() + most / 2, candidates_.end(),
          [](const Candidate& a, const Candidate& b) { return likelihood(a.bound) > likelihood(b.bound); });
    }
    return candidates_;
  }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  static constexpr int64_t kMaxima = 2;

  const Kernels& kernels_ = kernels();
  int64_t first_ = 0, count_ = 0, padded_ = 0, k_ = 0, runs_ = 0, queries_ = 0;
  std::vector<float> bounds_;  // (queries, padded_)
  std::vector<float> least_;   // (runs_ + 1, queries, kBlock)
  std::vector<float> best_;
  std::vector<int32_t> positions_;
  std::vector<Candidate> candidates_;
};

}  // namespace pyhue
