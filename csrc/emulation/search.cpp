// The search kernels for the CPU, and a look at what the screen alone keeps.
#include "emulation/search.h"

#include <vector>

#include "cuda/search.cu"  // NOLINT

namespace pyhue::cuda {

void choose_hopper(bool chosen) { hopper_chosen = chosen; }

void screen_audit(const Search& search, const Piece& piece, const float* distances, uint8_t* kept) {
  std::vector<Key> lists(static_cast<size_t>(search.count * piece.n));
  begin_search(search, nullptr);
  Pass pass = pass_of(search);
  pass.lists = lists.data();
  pass.list_length = static_cast<int>(piece.n);
  for (int q = 0; q < pass.count; ++q) {
    pass.bounds[q].threshold = screening_threshold(pass.squared_norms[q], distances[q], pass.dim);
  }
  screen_chunk(pass, piece, 0, piece.n, nullptr);
  for (int64_t q = 0; q < search.count; ++q) {
    for (int64_t i = 0; i < piece.n; ++i) kept[q * piece.n + i] = 0;
    for (int i = 0; i < pass.counts[q]; ++i) ++kept[q * piece.n + static_cast<int64_t>(lists[q * piece.n + i])];
  }
}

}  // namespace pyhue::cuda
