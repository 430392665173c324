// Screens one block with a full tile of queries, some times, for instructions to be counted: nothing survives.
// pyhue_tile floats|bytes DIMS TIMES; prints the products of one tile. PYHUE_ISA names the level.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "core/isa.h"
#include "core/kernels.h"

namespace pyhue {
namespace {

int run(bool bytes, int dims, int times) {
  set_isa_from_environment();
  const Kernels& table = kernels();
  const size_t count = static_cast<size_t>(dims), queries = static_cast<size_t>(table.tile_queries);
  std::vector<uint16_t> block(count * kBlock);
  std::vector<uint8_t> quads(count * kBlock);
  std::vector<float> bounds(kBoundTerms * kBlock);
  std::vector<int32_t> order(count + kDimsAhead);
  for (size_t i = 0; i < count; ++i) order[i] = static_cast<int32_t>(i);
  std::vector<char> panel(4 * count * queries);
  const std::vector<ByteQuery> sums(queries);
  const std::vector<QueryBound> query_bounds(queries, {0, 0, 0, std::numeric_limits<float>::infinity()});
  std::vector<Survivor> survivors(queries * kBlock);
  int found = 0;
  for (int i = 0; i < times; ++i) {
    found += bytes ? table.screen_bytes(quads.data(), bounds.data(), dims / 4, reinterpret_cast<int8_t*>(panel.data()),
                                        sums.data(), query_bounds.data(), table.tile_queries, survivors.data())
                   : table.screen_tile(block.data(), bounds.data(), order.data(), dims, panel.data(),
                                       query_bounds.data(), table.tile_queries, survivors.data());
  }
  std::printf("%d\n", dims * kBlock * table.tile_queries);
  return found != 0;
}

}  // namespace
}  // namespace pyhue

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  return pyhue::run(std::strcmp(argv[1], "bytes") == 0, std::atoi(argv[2]), std::atoi(argv[3]));
}
