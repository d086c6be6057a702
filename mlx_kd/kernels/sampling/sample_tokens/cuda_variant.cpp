#include "mlx_kd/kernels/sampling/sample_tokens/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::sample_tokens {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kThreads = 1024, kWord = 4;
// As bins.cu.h has them; the larger of the types.
constexpr int64_t kBins = (0x7bff + 0x56e0 + 5) / 4 * 4;
constexpr int64_t kBlocksAtOnce = 132;

// As Tiles and Blocks of sums.cu.h.
int64_t tiles_of(int64_t count) {
  return divide_up(count, 128 * std::min<int64_t>(divide_up(divide_up(count, 4), 32), 32));
}

int64_t units_of_sum(int64_t count) {
  const int64_t units = divide_up(std::min<int64_t>(512, divide_up(count, 8)), 32);
  const int64_t needed = divide_up(count, units * 256);
  return units * (needed < 32     ? 1
                  : needed < 128  ? 32
                  : needed < 512  ? 128
                  : needed < 1024 ? 512
                                  : 1024);
}

// As Places of row.cu.h.
int64_t exchange_size(int64_t count) {
  return 9 * 32 + 2 * 34 * tiles_of(count) + units_of_sum(count);
}

// A power of 2, so that all rows are at work at once.
int64_t blocks_of_row(const Dims& dims, const spec::Setting& knobs) {
  int64_t blocks = knobs.at("BLOCKS");
  while (blocks > 1 && blocks * dims.at("B") > kBlocksAtOnce) blocks /= 2;
  return blocks;
}

spec::Space space_in_cuda(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"BLOCKS",
                  {16, 1, 2, 4, 8},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "blocks that share a row at most"}};
  return space;
}

std::vector<spec::Stage> stages_in_cuda(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch;
  const int64_t blocks = blocks_of_row(dims, knobs);
  launch.group[0] = kThreads;
  launch.grid[0] = dims.at("B") * blocks * kThreads;
  launch.cluster[0] = blocks;
  launch.shared_bytes = kWord * (kBins + tiles_of(dims.at("V")) + 1);
  return {{"mlx_kd_sample_tokens", launch}};
}

std::vector<int64_t> scratch_in_cuda(Dtype, const Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = dims.at("B"), bins = (blocks_of_row(dims, knobs) + 1) * kBins;
  const int64_t candidates = dims.at("top") > 0 ? 2 * dims.at("V") : 0;
  return {kWord * rows * exchange_size(dims.at("V")), kWord * rows * bins,
          kWord * std::max<int64_t>(1, rows * candidates)};
}

}  // namespace

spec::Variant cuda_variant() {
  spec::Variant variant;
  variant.name = "clusters";
  variant.language = "cuda";
  variant.source = kernel_source("sampling/sample_tokens/sample_tokens.cu");
  variant.func_name = "mlx_kd_sample_tokens";
  variant.launch_kind = "cuda_arguments";
  variant.space = space_in_cuda;
  variant.stages = stages_in_cuda;
  variant.scratch = scratch_in_cuda;
  return variant;
}

}  // namespace mlx_kd::kernels::sample_tokens
