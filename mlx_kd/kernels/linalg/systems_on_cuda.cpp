// The launches of systems.cu.h and large.cu.h.
#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::linalg {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;

// As in the sources.
constexpr int64_t kWarp = 32, kMostWarps = 16, kFewWarps = 8;
constexpr int64_t kBlock = 32, kPanel = 8, kTall = 1536, kTaller = 2816, kTallest = 4736,
                  kMostOrdered = 28800;

int64_t padded_to(int64_t n, int64_t unit) {
  return divide_up(n, unit) * unit;
}

int64_t stride_of_group(int64_t width) {
  return width % 8 ? width : width + 4;
}

int64_t height_of(const Dims& dims) {
  return dims.has("m") ? dims.at("m") : dims.at("n");
}

int64_t panel_width(int64_t height) {
  if (height > kTaller) return kPanel;
  return height > kTall ? 2 * kPanel : kBlock;
}

// A panel in shared memory.
int64_t panel_bytes(int64_t height, int64_t wide) {
  return height <= kTallest ? 4 * height * stride_of_group(wide) : 0;
}

// The panels of P A = L U and what follows each.
void add_panels(std::vector<spec::Stage>& stages, const OnCuda& made, const Dims& dims,
                int64_t sides) {
  const std::string name = "mlx_kd_" + made.op;
  const int64_t rows = padded_to(height_of(dims), kBlock);
  const int64_t width = padded_to(dims.at("n"), kBlock) + padded_to(sides, kBlock);
  const int64_t steps = std::min(height_of(dims), dims.at("n"));
  for (int64_t p = 0; p < steps;) {
    const int64_t height = rows - p, wide = panel_width(height);
    stages.push_back(cuda_stage(name + "_panel", dims, kMostWarps, 1, p));
    stages.back().launch.shared_bytes = panel_bytes(height, wide);
    const int64_t left = made.keeps_left ? divide_up(p, kBlock) : 0;
    if (const int64_t units = left + divide_up(width - p - wide, kBlock); units > 0)
      stages.push_back(cuda_stage(name + "_columns", dims, kMostWarps, units, p));
    p += wide;
  }
}

std::vector<spec::Stage> stages_on_cuda(const OnCuda& made, const Dims& dims,
                                        const Setting& knobs) {
  const std::string name = "mlx_kd_" + made.op;
  const int64_t rows = height_of(dims), sides = made.sides ? made.sides(dims) : 0;
  const int64_t bytes = cuda_bytes(rows, dims.at("n"), sides);
  if (fits_on_cuda(bytes, knobs)) return {cuda_group(name, dims, rows, bytes, knobs)};
  const int64_t blocks = divide_up(rows, kBlock);
  std::vector<spec::Stage> stages = {cuda_stage(name + "_load", dims, kFewWarps, blocks)};
  if (made.by_panels) add_panels(stages, made, dims, sides);
  if (made.sides) {
    stages.push_back(cuda_stage(name + "_sides", dims, kMostWarps, divide_up(sides, kBlock)));
  } else {
    const bool has_rows = dims.has("m");
    stages.push_back(cuda_stage(name + "_store", dims, kFewWarps, has_rows ? blocks : 1));
    if (has_rows && rows <= kMostOrdered)
      stages.back().launch.shared_bytes = 4 * (rows + std::min(rows, dims.at("n")));
  }
  return stages;
}

}  // namespace

spec::Space cuda_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"WIDE", {2, 1, 4}, log2, launch, "threads of a row"}, shared_memory()};
  space.knobs.back().role = launch;  // the sources do not need it
  return space;
}

int64_t cuda_bytes(int64_t rows, int64_t columns, int64_t sides) {
  return 4 * padded_to(rows, kPanel) *
         stride_of_group(padded_to(columns, kPanel) + padded_to(sides, 4));
}

bool fits_on_cuda(int64_t bytes, const Setting& knobs) {
  return bytes <= knobs.at("SHARED") * 1024;
}

spec::Stage cuda_group(const std::string& function, const Dims& dims, int64_t rows,
                       int64_t shared_bytes, const Setting& knobs) {
  const int64_t warps =
      std::clamp<int64_t>(divide_up(rows * knobs.at("WIDE"), kWarp), 1, kMostWarps);
  spec::Stage stage = cuda_stage(function, dims, warps, 1);
  stage.launch.shared_bytes = shared_bytes;
  return stage;
}

spec::Stage cuda_stage(const std::string& function, const Dims& dims, int64_t warps, int64_t units,
                       int64_t index, int64_t more) {
  spec::Stage stage{function, {}, index};
  stage.launch.group = {kWarp, warps, 1};
  stage.launch.grid = {kWarp * dims.at("batch"), warps * units, more};
  return stage;
}

std::vector<int64_t> scratch_on_cuda(const Dims& dims, int64_t rows, int64_t columns,
                                     int64_t sides) {
  const int64_t blocks = divide_up(rows, kBlock), batch = dims.at("batch");
  const int64_t width = padded_to(columns, kBlock) + padded_to(sides, kBlock);
  return {4 * batch * blocks * kBlock * width, 4 * batch * (1 + blocks + blocks * kBlock)};
}

spec::Variant cuda_variant(const OnCuda& made) {
  spec::Variant variant;
  variant.name = "matrices";
  variant.language = "cuda";
  variant.source = kernel_source("linalg/" + made.op + "/" + made.op + ".cu");
  variant.func_name = "mlx_kd_" + made.op;
  variant.launch_kind = "cuda_arguments";
  variant.space = cuda_space;
  variant.stages = [made](const Dims& dims, const Setting& knobs) {
    return stages_on_cuda(made, dims, knobs);
  };
  variant.scratch = [made](Dtype, const Dims& dims, const Setting& knobs) {
    const int64_t rows = height_of(dims), sides = made.sides ? made.sides(dims) : 0;
    if (fits_on_cuda(cuda_bytes(rows, dims.at("n"), sides), knobs))
      return std::vector<int64_t>{0, 0};
    return scratch_on_cuda(dims, rows, dims.at("n"), sides);
  };
  return variant;
}

}  // namespace mlx_kd::kernels::linalg
