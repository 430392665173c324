#include "core/pack_vectors.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "core/bfloat16.h"

namespace pyhue {
namespace {

// Calls each(worker, position, values, squared norm, squared length) for every position of a piece.
template <class Each>
bool for_each_projected(const Piece& piece, const Projection& projection, const Executor& executor, Each each) {
  constexpr int64_t kPositions = 2 * Projection::Some::kMost;
  std::vector<std::optional<Projection::Some>> workers(static_cast<size_t>(executor.workers));
  const int dim = static_cast<int>(projection.dim());
  return for_each_chunk(executor, (piece.n + kPositions - 1) / kPositions, [&](int64_t chunk, int worker) {
    std::optional<Projection::Some>& some = workers[static_cast<size_t>(worker)];
    if (!some) some.emplace(projection);
    std::vector<float> wide(static_cast<size_t>(piece.bfloat16 ? dim : 0));
    const int64_t last = std::min(piece.n, (chunk + 1) * kPositions);
    for (int64_t begin = chunk * kPositions, end; begin < last; begin = end) {
      end = std::min(last, begin + some->most());
      some->begin();
      for (int64_t position = begin; position < end; ++position) {
        const char* vector = piece.vector(piece.order[position], dim);
        if (piece.bfloat16) {
          const auto* from = reinterpret_cast<const uint16_t*>(vector);
          std::transform(from, from + dim, wide.begin(), from_bfloat16);
          some->add(wide.data());
        } else {
          some->add(reinterpret_cast<const float*>(vector));
        }
      }
      some->finish();
      for (int64_t position = begin; position < end; ++position) {
        const int64_t place = position - begin;
        each(worker, position, some->values(place), some->squared_norm(place), some->squared_length(place));
      }
    }
  });
}

}  // namespace

bool pack_vectors(const Piece& piece, const Layout& layout, const Projection& projection, const FilterArrays& to,
                  const Executor& executor) {
  std::vector<Packer> packers(static_cast<size_t>(executor.workers), Packer(layout, projection.error(), to));
  const auto each = [&](int worker, int64_t position, const double* values, double norm, double length) {
    packers[static_cast<size_t>(worker)].pack(position, values, norm, length);
  };
  return for_each_projected(piece, projection, executor, each);
}

bool project_vectors(const Piece& piece, const Projection& projection, float* values, const Executor& executor) {
  const int64_t dims = projection.dims();
  const auto each = [&](int, int64_t position, const double* from, double, double) {
    std::transform(from, from + dims, values + position * dims, [](double value) { return static_cast<float>(value); });
  };
  return for_each_projected(piece, projection, executor, each);
}

}  // namespace pyhue
