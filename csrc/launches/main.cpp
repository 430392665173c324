// Makes the launches of csrc/cuda for many shapes on several GPUs, none of which has to be there, and fails where one
// would be refused: pyhue_launches RESOURCES, the table that cmake/cuda_resources.py writes.
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "cuda/density.h"
#include "cuda/hue_cross_entropy.h"
#include "cuda/rows.h"
#include "cuda/search.h"
#include "launches/runtime.h"

namespace pyhue::launches {
namespace {

using namespace pyhue::cuda;

constexpr Gpu kGpus[] = {{"H100, H200", "sm_90a", 9, 0, 132, 228 << 10, 2048},
                         {"A100", "sm_80", 8, 0, 108, 164 << 10, 2048},
                         {"A10, RTX 30", "sm_80", 8, 6, 72, 100 << 10, 1536},
                         {"L4, RTX 40", "sm_80", 8, 9, 58, 100 << 10, 1536}};

unsigned char memory[64];  // nothing reads it

template <class T>
T* array() {
  return reinterpret_cast<T*>(memory);
}

int failures = 0;

template <class Call>
void attempt(const std::string& what, const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    if (++failures <= 20) std::printf("%s: %s\n", what.c_str(), error.what());
  }
}

void every_hue_cross_entropy() {
  std::vector<int64_t> classes;
  for (int64_t c = 1; c < 140'000; c += c < 300 ? 1 : 37) classes.push_back(c);
  classes.push_back(50'000'000);
  for (const ElementType type : {kFloat32, kFloat64, kBfloat16, kFloat16}) {
    for (const int64_t c : classes) {
      for (const int64_t rows : {0, 1, 7, 100'000}) {
        for (int form = 0; form < 16; ++form) {
          const bool soft = form & 1, per_class = form & 2, smoothed = form & 4, capped = form & 8;
          const HueCrossEntropy loss{.type = type,
                                     .rows = rows,
                                     .classes = c,
                                     .input = memory,
                                     .hue = memory,
                                     .per_class = per_class,
                                     .target = soft ? nullptr : array<int64_t>(),
                                     .probabilities = soft ? memory : nullptr,
                                     .labels = memory,
                                     .weight = nullptr,
                                     .row_weight = nullptr,
                                     .hue_weight = 1,
                                     .hue_scale = 1,
                                     .ignore_index = -100,
                                     .reduction = static_cast<Reduction>(c % 3),
                                     .label_smoothing = smoothed ? 0.1 : 0,
                                     .lse_square_scale = 0,
                                     .softcap = capped ? 30.0 : 0,
                                     .loss = memory,
                                     .grad_input = memory,
                                     .grad_hue = memory,
                                     .grad_labels = memory};
          attempt("hue_cross_entropy, type " + std::to_string(type) + ", " + std::to_string(rows) + " x " +
                      std::to_string(c) + ", form " + std::to_string(form),
                  [&] { hue_cross_entropy(loss, memory, nullptr); });
        }
      }
    }
  }
  for (const ElementType type : {kFloat32, kFloat64}) {
    for (const int64_t count : {0, 1, 1'000'000'000}) {
      const ScaledArrays arrays{{{memory, count, type}, {memory, 3, type}}, 2};
      attempt("scale_gradients", [&] { scale_gradients(arrays, memory, nullptr); });
    }
  }
}

void every_search() {
  for (const int64_t n : {1, 63, 4'097, 4'000'000, 2'000'000'000}) {
    for (const int dim : {1, 63, 64, 1'280, 4'096}) {
      for (const bool bfloat16 : {false, true}) {
        const Piece piece{memory, bfloat16, 0, n, array<uint16_t>(), array<float>(), nullptr};
        attempt("pack, " + std::to_string(n) + " x " + std::to_string(dim),
                [&] { pack(piece, dim, array<double>(), array<uint16_t>(), array<float>(), nullptr); });
        for (const int64_t k : {1, 10, 17, 100, 1'024}) {
          for (const int64_t queries : {0, 1, 64, 65, 128, 129, 490, 4'096}) {
            if (queries > search_batch(k)) continue;
            const Search search{array<float>(), queries, dim, array<double>(), k, 1, {}, memory};
            attempt("search, " + std::to_string(n) + " x " + std::to_string(dim) + ", k " + std::to_string(k) + ", " +
                        std::to_string(queries) + " queries",
                    [&] {
                      begin_search(search, nullptr);
                      for (const int64_t searched : {0, 5}) search_piece(search, piece, searched, nullptr);
                      end_search(search, array<float>(), array<int64_t>(), nullptr);
                      if (k == 1'024 && n < 10'000'000)
                        search_within(search, piece, array<int64_t>(), nullptr, nullptr);
                    });
          }
        }
      }
    }
  }
}

void every_density() {
  for (const int64_t images : {0, 1, 100'000}) {
    for (const int64_t pixels : {0, 1, 49, 3'000}) {
      attempt("store_rows", [&] { store_rows(array<float>(), images * pixels, 9, true, array<float>(), nullptr); });
      attempt("store_rows", [&] { store_rows(array<double>(), images * pixels, 9, true, array<float>(), nullptr); });
      for (const int64_t k : {1, 1'024}) {
        for (const int64_t classes : {1, 7, 100'000}) {
          attempt("density, " + std::to_string(images) + " x " + std::to_string(pixels) + " x " + std::to_string(k) +
                      ", " + std::to_string(classes) + " classes",
                  [&] {
                    density(array<float>(), array<int64_t>(), array<int64_t>(), false, images, pixels, k, classes, 1e-8,
                            array<double>(), array<double>(), nullptr);
                    density(array<double>(), array<int64_t>(), array<int64_t>(), false, images, pixels, k, classes,
                            1e-8, array<double>(), array<double>(), nullptr);
                  });
        }
        const StoredPiece pieces[] = {{memory, 3}, {memory, 0}, {memory, 4'000'000'000}};
        for (const int dim : {1, 255, 256, 257, 4'096}) {
          for (const bool bfloat16 : {false, true}) {
            const FoundNeighbors found{images, pixels, k, dim, true, array<int64_t>(), pieces, 3, bfloat16};
            attempt("density_backward, " + std::to_string(images) + " x " + std::to_string(pixels) + " x " +
                        std::to_string(k) + " x " + std::to_string(dim),
                    [&] {
                      const DensityScratch scratch{array<const void*>(), array<double>()};
                      density_distances(found, array<double>(), scratch.rows, array<double>(), nullptr);
                      density_backward(found, DensityGradient<float>{}, scratch, nullptr);
                      density_backward(found, DensityGradient<double>{}, scratch, nullptr);
                    });
          }
        }
      }
    }
  }
}

// What hue_cross_entropy.cu promises of rows that take 512 threads.
void two_large_teams_share_a_multiprocessor() {
  int kernels = 0;
  for (const auto& [name, kernel] : launched()) {
    if (name.find("hard_rows") == name.npos || name.find("Li512E") == name.npos) continue;
    ++kernels;
    if (kernel.fewest >= 2) continue;
    ++failures;
    std::printf("%s: a multiprocessor holds %d\n", name.c_str(), static_cast<int>(kernel.fewest));
  }
  if (kernels != 3) ++failures, std::puts("hard_rows of 512 threads: expected 3 types");
}

// Lines of a target, a mangled name, registers, bytes of static shared memory.
std::map<std::string, Usage> read_usage(const char* path, const std::string& target) {
  std::map<std::string, Usage> kernels;
  std::ifstream file(path);
  std::string its_target, name;
  Usage usage{};
  while (file >> its_target >> name >> usage.registers >> usage.static_shared) {
    if (its_target == target) kernels[name] = usage;
  }
  return kernels;
}

}  // namespace
}  // namespace pyhue::launches

int main(int count, char** arguments) {
  using namespace pyhue::launches;
  if (count != 2) return std::puts("usage: pyhue_launches RESOURCES"), 2;
  for (const Gpu& gpu : kGpus) {
    const std::map<std::string, Usage> kernels = read_usage(arguments[1], gpu.target);
    use(gpu, kernels);
    every_hue_cross_entropy();
    every_search();
    every_density();
    two_large_teams_share_a_multiprocessor();
    int64_t launches = 0;
    for (const auto& [name, launched_kernel] : launched()) launches += launched_kernel.launches;
    std::printf("%s: %zu of %zu kernels, %lld launches\n", gpu.name, launched().size(), kernels.size(),
                static_cast<long long>(launches));
  }
  if (failures) std::printf("%d failures\n", failures);
  return failures != 0;
}
