#include "mlx_kd/kernels/matmul/gemm/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/common/wide_tiles.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

// As in gemm.cu.
constexpr int64_t kSide = 64, kRowThreads = 256, kNumbersPer16Bytes = 8;

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
  spec::TensorMap x{x_copied ? scratch : input,
                    0,
                    2,
                    {k, m},
                    x_copied ? pitch : k,
                    {wide_tiles::kDepth, wide_tiles::kRows},
                    128};
  spec::TensorMap w{w_copied ? scratch : input,
                    1,
                    2,
                    {k, n},
                    w_copied ? pitch : k,
                    {wide_tiles::kDepth, knobs.at("TILE_N") / knobs.at("CLUSTER")},
                    128};
  std::vector<spec::TensorMap> maps = {x, w};
  if (n % kNumbersPer16Bytes == 0) maps.push_back({output, 0, 2, {n, m}, n, {64, 64}, 128});
  return maps;
}

spec::Stage stage_of_tiles(const Dims& dims, const spec::Setting& knobs) {
  spec::Stage stage =
      wide_tiles::stage("mlx_kd_gemm_tiles", {1, dims.at("M"), dims.at("N")}, knobs);
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
  variant.space = [](Dtype t, const spec::DeviceTraits&) { return wide_tiles::space(t); };
  variant.stages = gemm_stages;
  variant.scratch = gemm_scratch;
  return variant;
}

}  // namespace mlx_kd::kernels::matmul
