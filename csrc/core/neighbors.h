// The k nearest neighbours seen so far of one query: a binary heap whose root is the worst.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pyhue {

struct Neighbor {
  float distance;
  int64_t index;
  // The order of results: nearer first, ties to the lower index.
  friend bool operator<(const Neighbor& a, const Neighbor& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.index < b.index;
  }
};

class Neighbors {
 public:
  Neighbors() = default;
  Neighbors(Neighbor* storage, int64_t k) : heap_(storage), k_(k) {}

  bool full() const { return size_ == k_; }
  const Neighbor& worst() const { return heap_[0]; }

  // Keeps the neighbour if it is among the k best; says whether it did.
  bool offer(Neighbor neighbor) {
    if (full()) {
      if (!(neighbor < worst())) return false;
      replace_worst(neighbor);
    } else {
      heap_[size_++] = neighbor;
      std::push_heap(heap_, heap_ + size_);
    }
    return true;
  }

  const Neighbor* begin() const { return heap_; }
  const Neighbor* end() const { return heap_ + size_; }

 private:
  // Half the work of std::pop_heap and std::push_heap.
  void replace_worst(Neighbor neighbor) {
    int64_t place = 0;
    for (int64_t child = 1; child < size_; child = 2 * place + 1) {
      if (child + 1 < size_ && heap_[child] < heap_[child + 1]) ++child;
      if (!(neighbor < heap_[child])) break;
      heap_[place] = heap_[child];
      place = child;
    }
    heap_[place] = neighbor;
  }

  Neighbor* heap_ = nullptr;
  int64_t k_ = 0, size_ = 0;
};

}  // namespace pyhue
