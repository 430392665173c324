// The search kernels for the CPU, and a look at what the screen alone keeps.
#include "emulation/search.h"

#include <vector>

#include "cuda/search.cu"  // NOLINT

namespace pyhue::cuda {

void screen_audit(const Memory& memory, const float* queries, int64_t count, const float* distances, uint8_t* kept) {
  std::vector<unsigned char> scratch(static_cast<size_t>(search_scratch_bytes(count, 1, memory.dim)), 0xff);
  std::vector<Key> lists(static_cast<size_t>(count * memory.n));
  Pass pass = pass_of(memory, queries, count, 1, scratch_of(count, 1, memory.dim), scratch.data());
  pass.lists = lists.data();
  pass.list_length = static_cast<int>(memory.n);
  prepare_pass(pass, nullptr);
  for (int q = 0; q < pass.count; ++q) {
    pass.bounds[q].threshold = screening_threshold(pass.squared_norms[q], distances[q], memory.dim);
  }
  screen_chunk(pass, 0, memory.n, nullptr);
  for (int64_t q = 0; q < count; ++q) {
    for (int64_t i = 0; i < memory.n; ++i) kept[q * memory.n + i] = 0;
    for (int i = 0; i < pass.counts[q]; ++i) ++kept[q * memory.n + static_cast<int64_t>(lists[q * memory.n + i])];
  }
}

}  // namespace pyhue::cuda
