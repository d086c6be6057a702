#include "mlx_kd/kernels/matmul/matmul/metal_variant.h"

#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::general_product {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kSimd = 32;
constexpr int64_t kMostBytes = 32 << 10;  // of threadgroup memory

void add_limits(spec::Space& space, Dtype t) {
  space.constraints = {
      {"a simdgroup has whole matrices of 8 rows",
       {"TILE_M", "SIMD_ROWS"},
       [](const int64_t* v) { return v[0] % (8 * v[1]) == 0; }},
      {"a simdgroup has whole matrices of 8 columns",
       {"TILE_N", "SIMD_COLUMNS"},
       [](const int64_t* v) { return v[0] % (8 * v[1]) == 0; }},
      {"a simdgroup has 1 to 16 matrices",
       {"TILE_M", "TILE_N", "SIMD_ROWS", "SIMD_COLUMNS"},
       [](const int64_t* v) { return v[0] * v[1] <= 16 * 64 * v[2] * v[3]; }},
      {"tiles fit in 32 KiB of threadgroup memory",
       {"TILE_M", "TILE_N", "TILE_K", "PAD", "STAGES", "SIMD_ROWS", "SIMD_COLUMNS"},
       [size = spec::size_of(t)](const int64_t* v) {
         const int64_t elements = v[0] * (v[2] + v[3]) + v[2] * (v[1] + v[3]);
         return v[4] * elements * size + v[5] * v[6] * 256 <= kMostBytes;
       }}};
}

spec::Space metal_space(Dtype t, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {
      {"TILE_M", {32, 64, 16}, log2, source, "rows of a tile"},
      {"TILE_N", {32, 64, 16}, log2, source, "columns of a tile"},
      {"TILE_K", {16, 8, 32}, log2, source, "of K at a time"},
      {"SIMD_ROWS", {2, 1, 4}, log2, source, "simdgroups that divide the rows of a tile"},
      {"SIMD_COLUMNS", {2, 1, 4}, log2, source, "simdgroups that divide its columns"},
      {"PAD", {8, 0, 4}, linear, source, "elements behind a row in threadgroup memory"},
      {"STAGES", {1, 2}, choice, source, "tiles of K in memory", {"one", "two"}},
      {"SWIZZLE", {1, 2, 4, 8}, log2, source, "rows of tiles that are taken together"},
      fast_knob("exponential")};
  add_limits(space, t);
  return space;
}

spec::Launch metal_launch(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.group[0] = kSimd * knobs.at("SIMD_ROWS") * knobs.at("SIMD_COLUMNS");
  launch.grid[0] = dims.at("batch") * divide_up(dims.at("M"), knobs.at("TILE_M")) *
                   divide_up(dims.at("N"), knobs.at("TILE_N")) * launch.group[0];
  return launch;
}

}  // namespace

spec::Variant metal_variant() {
  spec::Variant variant;
  variant.name = "tiles";
  variant.language = "metal";
  variant.source = kernel_source("matmul/matmul/matmul.metal");
  variant.func_name = "mlx_kd_matmul";
  variant.launch_kind = "metal_groups";
  variant.space = metal_space;
  variant.launch = metal_launch;
  return variant;
}

}  // namespace mlx_kd::kernels::general_product
