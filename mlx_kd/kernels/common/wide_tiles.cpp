#include "mlx_kd/kernels/common/wide_tiles.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::wide_tiles {
namespace {

// As in wide_tiles.cu.h.
constexpr int64_t kTileThreads = 384;
constexpr int64_t kMostGroupBytes = 227 << 10;  // of shared memory, of a block

int64_t shared_bytes_of(int64_t tile_columns, int64_t stages) {
  const int64_t operands = stages * (kRows + tile_columns) * kDepth * 2;
  return operands + 16 * stages;
}

// The results of both warpgroups.
int64_t result_bytes_of(int64_t tile_columns, int64_t is_own) {
  return (is_own ? 2 : 1) * kRows * tile_columns * 2;
}

}  // namespace

spec::Space space(spec::Dtype t) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space made;
  if (t == spec::Dtype::float32) {
    made.knobs = {{"TENSOR", {0}, choice, launch, "products run on", {"ordinary units"}}};
    return made;
  }
  made.knobs = {
      {"TENSOR", {1, 0}, choice, launch, "products run on", {"tensor cores", "ordinary units"}},
      {"TILE_N", {128, 256}, log2, source, "rows of W of a tile"},
      {"OWN", {1, 0}, choice, source, "a tile is of", {"one warpgroup", "both"}},
      {"STAGES", {5, 3, 4, 6}, linear, source, "tiles of operands in shared memory"},
      {"CLUSTER", {1, 2}, log2, source, "blocks that share what they read of W"},
      {"GROUP", {8, 4, 16}, log2, source, "rows of tiles that are done together"},
      {"BLOCKS", {132, 114, 78}, linear, launch, "blocks that share the tiles"}};
  made.constraints = {
      {"sums of 256 columns of 128 rows fit no registers",
       {"TILE_N", "OWN"},
       [](const int64_t* v) { return v[0] == 128 || v[1] == 0; }},
      {"a block has 227 KiB of shared memory",
       {"TILE_N", "OWN", "STAGES"},
       [](const int64_t* v) {
         return shared_bytes_of(v[0], v[2]) + result_bytes_of(v[0], v[1]) <= kMostGroupBytes;
       }},
      {"without tensor cores nothing else counts",
       {"TENSOR", "TILE_N", "OWN", "STAGES", "CLUSTER", "GROUP", "BLOCKS"},
       [](const int64_t* v) {
         return v[0] == 1 ||
                (v[1] == 128 && v[2] == 1 && v[3] == 5 && v[4] == 1 && v[5] == 8 && v[6] == 132);
       }}};
  return made;
}

spec::Stage stage(const std::string& func_name, const Results& results,
                  const spec::Setting& knobs) {
  const int64_t cluster = knobs.at("CLUSTER"), columns = knobs.at("TILE_N");
  const int64_t rows = divide_up(divide_up(results.rows, kRows), cluster);
  const int64_t tiles = results.items * rows * divide_up(results.columns, columns);
  spec::Stage made{func_name, {}};
  made.launch.group = {kTileThreads, 1, 1};
  made.launch.grid = {
      std::min(std::max<int64_t>(knobs.at("BLOCKS") / cluster, 1), tiles) * cluster * kTileThreads,
      1, 1};
  made.launch.cluster = {cluster, 1, 1};
  made.launch.shared_bytes =
      shared_bytes_of(columns, knobs.at("STAGES")) + result_bytes_of(columns, knobs.at("OWN"));
  return made;
}

}  // namespace mlx_kd::kernels::wide_tiles
