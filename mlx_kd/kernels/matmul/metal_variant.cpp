#include "mlx_kd/kernels/matmul/metal_variant.h"

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kSimd = 32;

spec::Space metal_space(const Kind& kind) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"ROWS", {4, 1, 2, 8}, log2, source, "rows of W of a simdgroup"}};
  if (kind.quantised)
    space.knobs.push_back({"WORDS", {4, 1, 2}, log2, source, "uints of a load at most"});
  else
    space.knobs.push_back({"VEC", {8, 1, 2, 4}, log2, source, "elements of a load"});
  space.knobs.push_back({"SPLIT", {1, 2, 4, 8}, log2, source, "simdgroups that share a row of W"});
  space.knobs.push_back(
      {"THREADS", {128, 32, 64, 256, 512}, log2, source, "threads of a threadgroup"});
  space.constraints = {{"the simdgroups that share rows are in one threadgroup",
                        {"SPLIT", "THREADS"},
                        [](const int64_t* v) { return v[0] * kSimd <= v[1]; }}};
  return space;
}

// Several rows of x share what is read of W.
spec::Space space_of_rows(const Kind& kind) {
  spec::Space space = metal_space(kind);
  space.knobs.insert(space.knobs.begin() + 1, {"XROWS",
                                               {4, 1, 2, 8},
                                               spec::KnobScale::log2,
                                               spec::KnobRole::source,
                                               "rows of x per simdgroup"});
  space.constraints.push_back({"a thread adds at most 32 sums",
                               {"ROWS", "XROWS"},
                               [](const int64_t* v) { return v[0] * v[1] <= 32; }});
  return space;
}

// Blocks of rows of W: of each matrix that is read on its own.
int64_t blocks_of(const Kind& kind, const Dims& dims, const spec::Setting& knobs) {
  const int64_t block = knobs.at("THREADS") / kSimd / knobs.at("SPLIT") * knobs.at("ROWS");
  if (kind.form != Form::queries) return divide_up(dims.at("N"), block);
  int64_t blocks = 0;
  for (const std::string& rows : rows_of(kind.form)) blocks += divide_up(dims.at(rows), block);
  return blocks;
}

std::vector<spec::Stage> metal_stages(const Kind& kind, const Dims& dims,
                                      const spec::Setting& knobs) {
  const int64_t m = dims.at("M"), threads = knobs.at("THREADS");
  spec::Launch norm, products;
  norm.group[0] = products.group[0] = threads;
  norm.grid[0] = dims.at("has_norm") ? m * threads : 0;
  products.grid[0] = blocks_of(kind, dims, knobs) * divide_up(m, knobs.at("XROWS")) * threads;
  return {{"mlx_kd_" + kind.name, norm}, {"mlx_kd_" + kind.name + "_rows", products}};
}

spec::Launch launch_of_experts(const Kind& kind, const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.group[0] = knobs.at("THREADS");
  launch.grid[0] = dims.at("M") * dims.at("A") * blocks_of(kind, dims, knobs) * launch.group[0];
  return launch;
}

spec::Variant simdgroups(const Kind& kind) {
  spec::Variant variant;
  variant.name = "simdgroups";
  variant.language = "metal";
  variant.source = kernel_source("matmul/" + kind.name + "/" + kind.name + ".metal");
  variant.func_name = "mlx_kd_" + kind.name;
  variant.launch_kind = "metal_blocks";
  return variant;
}

}  // namespace

spec::Variant experts_in_metal(const Kind& kind) {
  spec::Variant variant = simdgroups(kind);
  variant.space = [kind](Dtype, const spec::DeviceTraits&) { return metal_space(kind); };
  variant.launch = [kind](const Dims& dims, const spec::Setting& knobs) {
    return launch_of_experts(kind, dims, knobs);
  };
  return variant;
}

spec::Variant metal_variant(const Kind& kind) {
  spec::Variant variant = simdgroups(kind);
  variant.space = [kind](Dtype, const spec::DeviceTraits&) { return space_of_rows(kind); };
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return metal_stages(kind, dims, knobs);
  };
  variant.scratch = [](Dtype t, const Dims& dims, const spec::Setting&) {
    const int64_t bytes = dims.at("M") * dims.at("K") * spec::size_of(t);
    return std::vector<int64_t>{dims.at("has_norm") ? bytes : 16};
  };
  return variant;
}

}  // namespace mlx_kd::kernels::matmul
