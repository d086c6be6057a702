#include "mlx_kd/kernels/matmul/gemm/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

// As in gemm.cu.
constexpr int64_t kTileRows = 128, kTileDepth = 64, kTileThreads = 384, kSide = 64,
                  kRowThreads = 256;
constexpr int64_t kMostGroupBytes = 227 << 10;  // of shared memory, of a block
constexpr int64_t kNumbersPer16Bytes = 8;

int64_t shared_bytes_of(int64_t tile_columns, int64_t stages) {
  const int64_t operands = stages * (kTileRows + tile_columns) * kTileDepth * 2;
  return operands + 16 * stages;
}

// The results of both warpgroups.
int64_t result_bytes_of(int64_t tile_columns, int64_t is_own) {
  return (is_own ? 2 : 1) * kTileRows * tile_columns * 2;
}

spec::Space gemm_space(Dtype t, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  if (t == Dtype::float32) {
    space.knobs = {{"TENSOR", {0}, choice, launch, "products run on", {"ordinary units"}}};
    return space;
  }
  space.knobs = {
      {"TENSOR", {1, 0}, choice, launch, "products run on", {"tensor cores", "ordinary units"}},
      {"TILE_N", {128, 256}, log2, source, "rows of W of a tile"},
      {"OWN", {1, 0}, choice, source, "a tile is of", {"one warpgroup", "both"}},
      {"STAGES", {5, 3, 4, 6}, linear, source, "tiles of operands in shared memory"},
      {"CLUSTER", {1, 2}, log2, source, "blocks that share what they read of W"},
      {"GROUP", {8, 4, 16}, log2, source, "rows of tiles that are done together"},
      {"BLOCKS", {132, 114, 78}, linear, launch, "blocks that share the tiles"}};
  space.constraints = {
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
  return space;
}

bool rows_are_copied(const Dims& dims) {
  return dims.at("K") % kNumbersPer16Bytes != 0;
}

int64_t pitch_of_copies(const Dims& dims) {
  return divide_up(dims.at("K"), 64) * 64;
}

spec::Stage stage_of_rows(const std::string& func_name, int64_t rows, int64_t arrays) {
  spec::Stage stage{func_name, {}};
  stage.launch.group = {kRowThreads, 1, 1};
  stage.launch.grid = {rows * kRowThreads, arrays, 1};
  return stage;
}

spec::Stage stage_of_squares(const Dims& dims) {
  spec::Stage stage{"mlx_kd_gemm", {}};
  stage.launch.group = {kRowThreads, 1, 1};
  stage.launch.grid = {divide_up(dims.at("N"), kSide) * kRowThreads, divide_up(dims.at("M"), kSide),
                       1};
  return stage;
}

std::vector<spec::TensorMap> maps_of(const Dims& dims, const spec::Setting& knobs) {
  using enum spec::TensorMap::Array;
  const int64_t m = dims.at("M"), n = dims.at("N"), k = dims.at("K");
  const bool w_copied = rows_are_copied(dims), x_copied = w_copied || dims.at("has_norm");
  const int64_t pitch = pitch_of_copies(dims);
  spec::TensorMap x{x_copied ? scratch : input, 0,  2, {k, m}, x_copied ? pitch : k,
                    {kTileDepth, kTileRows},    128};
  spec::TensorMap w{w_copied ? scratch : input,
                    1,
                    2,
                    {k, n},
                    w_copied ? pitch : k,
                    {kTileDepth, knobs.at("TILE_N") / knobs.at("CLUSTER")},
                    128};
  std::vector<spec::TensorMap> maps = {x, w};
  if (n % kNumbersPer16Bytes == 0) maps.push_back({output, 0, 2, {n, m}, n, {64, 64}, 128});
  return maps;
}

spec::Stage stage_of_tiles(const Dims& dims, const spec::Setting& knobs) {
  const int64_t cluster = knobs.at("CLUSTER"), columns = knobs.at("TILE_N");
  const int64_t rows = divide_up(divide_up(dims.at("M"), kTileRows), cluster);
  const int64_t tiles = rows * divide_up(dims.at("N"), columns);
  spec::Stage stage{"mlx_kd_gemm_tiles", {}};
  stage.launch.group = {kTileThreads, 1, 1};
  stage.launch.grid = {
      std::min(std::max<int64_t>(knobs.at("BLOCKS") / cluster, 1), tiles) * cluster * kTileThreads,
      1, 1};
  stage.launch.cluster = {cluster, 1, 1};
  stage.launch.shared_bytes =
      shared_bytes_of(columns, knobs.at("STAGES")) + result_bytes_of(columns, knobs.at("OWN"));
  stage.tensor_maps = maps_of(dims, knobs);
  return stage;
}

// x with its norm takes the place of its copy.
std::vector<spec::Stage> gemm_stages(const Dims& dims, const spec::Setting& knobs) {
  const bool on_tensor_cores = knobs.at("TENSOR");
  std::vector<spec::Stage> stages;
  if (on_tensor_cores && rows_are_copied(dims))
    stages.push_back(stage_of_rows("mlx_kd_gemm_rows", std::max(dims.at("M"), dims.at("N")), 2));
  if (dims.at("has_norm")) stages.push_back(stage_of_rows("mlx_kd_gemm_norm", dims.at("M"), 1));
  stages.push_back(on_tensor_cores ? stage_of_tiles(dims, knobs) : stage_of_squares(dims));
  return stages;
}

std::vector<int64_t> gemm_scratch(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  const bool w_copied = knobs.at("TENSOR") && rows_are_copied(dims);
  const bool x_copied = w_copied || dims.at("has_norm");
  const int64_t row = pitch_of_copies(dims) * spec::size_of(t);
  return {x_copied ? dims.at("M") * row : 16, w_copied ? dims.at("N") * row : 16};
}

}  // namespace

spec::Variant gemm_in_cuda() {
  spec::Variant variant;
  variant.name = "warpgroups";
  variant.language = "cuda";
  variant.source = kernel_source("matmul/gemm/gemm.cu");
  variant.func_name = "mlx_kd_gemm";
  variant.launch_kind = "cuda_arguments";
  variant.space = gemm_space;
  variant.stages = gemm_stages;
  variant.scratch = gemm_scratch;
  return variant;
}

}  // namespace mlx_kd::kernels::matmul
