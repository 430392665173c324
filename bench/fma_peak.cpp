// Prints the float32 multiply-add rate of some threads, in 1e9 operations a second: twenty independent chains
// a thread, which hides the latency of every x86 core.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#ifdef __AVX512F__
constexpr int kWidth = 16, kChains = 20;
#else
constexpr int kWidth = 8, kChains = 12;
#endif
typedef float Floats __attribute__((vector_size(4 * kWidth)));

volatile float sink;

void work(long rounds) {
  Floats sums[kChains];  // different, or the compiler would compute one for all
  for (int i = 0; i < kChains; ++i) sums[i] = Floats{} + static_cast<float>(i);
  const Floats factor = Floats{} + 0.5f, term = Floats{} + 1.0f;
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 20
    for (Floats& sum : sums) sum = sum * factor + term;
  }
  for (Floats& sum : sums) {
    for (int lane = 0; lane < kWidth; ++lane) sink = sum[lane];
  }
}

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  constexpr long kRounds = 20'000'000;
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work, kRounds);
    work(kRounds);
    for (std::thread& other : others) other.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double rate = 2e-9 * kWidth * kChains * kRounds * threads / seconds;
    best = rate > best ? rate : best;
  }
  std::printf("%.1f\n", best);
}
