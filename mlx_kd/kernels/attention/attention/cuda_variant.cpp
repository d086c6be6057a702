#include "mlx_kd/kernels/attention/attention/cuda_variant.h"

#include <algorithm>
#include <string>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::attention {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kRowsOfBlock = 8;    // as in attention.cu
constexpr int64_t kKeysAtATime = 256;  // of the kernel of any width
constexpr int64_t kBlocksAtOnce = 264;
constexpr int64_t kFewestKeys = 32;  // of a block of several

int64_t blocks_of_eight(int64_t rows) {
  return divide_up(rows, kRowsOfBlock);
}

spec::Space cuda_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"PARTS", {16, 1, 2, 4, 8}, log2, launch, "blocks that share the keys at most"},
                 {"WARPS", {4, 2, 8}, log2, source, "warps of a block"}};
  return space;
}

// Blocks of a cluster: no more than keep the chip busy, and than have some keys each.
int64_t parts_of_cluster(const Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = dims.at("Hq") / dims.at("Hk") * dims.at("M");
  const int64_t clusters = dims.at("B") * dims.at("Hk") * blocks_of_eight(rows);
  return std::clamp<int64_t>(
      std::min(kBlocksAtOnce / clusters, divide_up(dims.at("S"), kFewestKeys)), 1,
      knobs.at("PARTS"));
}

std::vector<spec::Stage> cuda_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t threads = 32 * knobs.at("WARPS"), parts = parts_of_cluster(dims, knobs);
  const int64_t key_width = dims.at("Dk"), width = dims.at("Dv");
  const bool is_own = key_width == width && (width == 64 || width == 128);
  spec::Stage stage{"mlx_kd_attention" + (is_own ? "_" + std::to_string(width) : ""), {}};
  const int64_t rows = dims.at("Hq") / dims.at("Hk") * dims.at("M");
  stage.launch.group = {threads, 1, 1};
  stage.launch.grid = {parts * threads, dims.at("B") * dims.at("Hk"), blocks_of_eight(rows)};
  stage.launch.cluster = {parts, 1, 1};
  const int64_t of_warps = is_own ? knobs.at("WARPS") * (width + 2) : 0;
  stage.launch.shared_bytes = 4 * kRowsOfBlock * (2 + width + std::max(kKeysAtATime, of_warps));
  return {stage};
}

}  // namespace

spec::Variant cuda_variant() {
  spec::Variant variant;
  variant.name = "clusters";
  variant.language = "cuda";
  variant.source = kernel_source("attention/attention/attention.cu");
  variant.func_name = "mlx_kd_attention";
  variant.launch_kind = "cuda_arguments";
  variant.space = cuda_space;
  variant.stages = cuda_stages;
  return variant;
}

}  // namespace mlx_kd::kernels::attention
