#include "core/project.h"

#include <algorithm>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {

void project(const double* vectors, int64_t n, const double* rows, int64_t m, int64_t dim, double* out,
             const Executor& executor) {
  const ProjectTile tile = kernels().project_tile;
  constexpr int64_t kRows = 16;  // of the rotation in a chunk: stay in the second-level cache
  for_each_chunk(executor, (m + kRows - 1) / kRows, [&](int64_t chunk, int) {
    const int64_t end = std::min(m, (chunk + 1) * kRows);
    for (int64_t i = 0; i < n; i += kProjectTile) {
      for (int64_t j = chunk * kRows; j < end; j += kProjectTile) {
        const double *left[kProjectTile], *right[kProjectTile];
        double dots[kProjectTile][kProjectTile];
        for (int64_t t = 0; t < kProjectTile; ++t) {  // the last ones again where the tile overhangs
          left[t] = vectors + std::min(n - 1, i + t) * dim;
          right[t] = rows + std::min(end - 1, j + t) * dim;
        }
        tile(left, right, dim, dots);
        for (int64_t a = 0; a < std::min<int64_t>(kProjectTile, n - i); ++a) {
          std::copy_n(dots[a], std::min<int64_t>(kProjectTile, end - j), out + (i + a) * m + j);
        }
      }
    }
  });
}

}  // namespace pyhue
