// Screens one block with a full tile of queries, some times, for instructions to be counted: nothing survives.
// pyhue_tile DIMS TIMES, DIMS a multiple of 64; prints the products of one tile. PYHUE_ISA names the level.
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

int run(int dims, int times) {
  set_isa_from_environment();
  const Kernels& table = kernels();
  const size_t count = static_cast<size_t>(dims), queries = static_cast<size_t>(table.tile_queries);
  const std::vector<uint8_t> block(count * kBlock);
  const std::vector<float> bounds((1 + kStageTerms) * kBlock);
  const std::vector<int8_t> values(count * queries);
  const std::vector<StageFactors> factors(queries);
  const std::vector<QueryBound> query_bounds(queries, {1, std::numeric_limits<float>::infinity()});
  std::vector<Survivor> survivors(queries * kBlock);
  const BlockScreen screen = {
      block.data(), bounds.data(), values.data(), dims, factors.data(), 0, query_bounds.data(), &dims, 1, 0, 0};
  int found = 0;
  for (int i = 0; i < times; ++i) {
    ScreenEnd end;
    found += table.screen_block(screen, table.tile_queries, survivors.data(), &end);
  }
  std::printf("%d\n", dims * kBlock * table.tile_queries);
  return found != 0;
}

}  // namespace
}  // namespace pyhue

int main(int argc, char** argv) { return argc == 3 ? pyhue::run(std::atoi(argv[1]), std::atoi(argv[2])) : 2; }
