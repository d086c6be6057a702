#include "mlx_kd/kernels/matmul/matmul/cuda_variants.h"

#include <algorithm>

#include "mlx_kd/kernels/common/wide_tiles.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::general_product {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::TensorMap;

spec::Variant variant_in_cuda(const std::string& name, const std::string& source) {
  spec::Variant variant;
  variant.name = name;
  variant.language = "cuda";
  variant.source = kernel_source("matmul/matmul/" + source + ".cu");
  variant.func_name = "mlx_kd_" + source;
  variant.launch_kind = "cuda_arguments";
  return variant;
}

// --- tiles, as in matmul.cu ------------------------------------------------------------------

constexpr int64_t kMultiple = 64, kSide = 128, kBlockThreads = 256, kNumbersPer16Bytes = 8;

int64_t whole_rows(int64_t count) {
  return divide_up(count, kMultiple) * kMultiple;
}

// How an operand lies in a call.
struct Layout {
  int64_t rows, columns;  // of a matrix
  bool across, copied;

  int64_t pitch() const { return copied ? whole_rows(columns) : columns; }
  int64_t pitch_of_matrices() const { return copied && across ? whole_rows(rows) : rows; }
};

Layout layout_of(const Dims& dims, bool is_a) {
  const int64_t k = dims.at("K"), lines = dims.at(is_a ? "M" : "N");
  const bool across = is_a ? dims.at("transpose_a") : !dims.at("transpose_b");
  Layout layout{across ? k : lines, across ? lines : k, across, false};
  layout.copied = layout.columns % kNumbersPer16Bytes != 0 ||
                  (across && dims.at("batch") > 1 && k % kMultiple != 0);
  return layout;
}

TensorMap map_of(const Dims& dims, bool is_a, int64_t lines) {
  const Layout layout = layout_of(dims, is_a);
  TensorMap map;
  map.array = layout.copied ? TensorMap::Array::scratch : TensorMap::Array::input;
  map.index = is_a ? 0 : 1;
  map.size = {layout.columns, dims.at("batch") * layout.pitch_of_matrices()};
  map.pitch = layout.pitch();
  map.box = {wide_tiles::kDepth, layout.across ? wide_tiles::kDepth : lines};
  map.swizzle = 128;
  return map;
}

spec::Stage stage_of_tiles(const Dims& dims, const spec::Setting& knobs) {
  const int64_t m = dims.at("M"), n = dims.at("N"), batch = dims.at("batch");
  spec::Stage stage =
      wide_tiles::stage(std::string("mlx_kd_matmul_") + (dims.at("transpose_a") ? "t" : "n") +
                            (dims.at("transpose_b") ? "t" : "n"),
                        {batch, m, n}, knobs);
  stage.tensor_maps = {map_of(dims, true, wide_tiles::kRows),
                       map_of(dims, false, knobs.at("TILE_N") / knobs.at("CLUSTER"))};
  if (n % kNumbersPer16Bytes == 0)
    stage.tensor_maps.push_back({TensorMap::Array::output, 0, 2, {n, batch * m}, n, {64, 64}, 128});
  return stage;
}

spec::Stage stage_of_blocks(const std::string& func_name, int64_t blocks) {
  spec::Stage stage{func_name, {}};
  stage.launch.group[0] = kBlockThreads;
  stage.launch.grid[0] = blocks * kBlockThreads;
  return stage;
}

std::vector<spec::Stage> tiles_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t batch = dims.at("batch");
  if (!knobs.at("TENSOR"))
    return {stage_of_blocks(
        "mlx_kd_matmul", batch * divide_up(dims.at("M"), kSide) * divide_up(dims.at("N"), kSide))};
  const Layout a = layout_of(dims, true), b = layout_of(dims, false);
  std::vector<spec::Stage> stages;
  if (a.copied || b.copied) {
    const int64_t rows = std::max(a.copied ? a.pitch_of_matrices() : 0,  //
                                  b.copied ? b.pitch_of_matrices() : 0);
    stages.push_back(stage_of_blocks("mlx_kd_matmul_rows", batch * rows));
    stages.back().launch.grid[1] = 2;
  }
  stages.push_back(stage_of_tiles(dims, knobs));
  return stages;
}

std::vector<int64_t> tiles_scratch(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  std::vector<int64_t> bytes;
  for (const bool is_a : {true, false}) {
    const Layout layout = layout_of(dims, is_a);
    const int64_t rows = dims.at("batch") * layout.pitch_of_matrices();
    const bool copied = knobs.at("TENSOR") && layout.copied;
    bytes.push_back(copied ? rows * layout.pitch() * spec::size_of(t) : 16);
  }
  return bytes;
}

spec::Variant cuda_tiles() {
  spec::Variant variant = variant_in_cuda("tiles", "matmul");
  variant.space = [](Dtype t, const spec::DeviceTraits&) { return wide_tiles::space(t); };
  variant.stages = tiles_stages;
  variant.scratch = tiles_scratch;
  return variant;
}

// --- parts, as in matmul_parts.cu ------------------------------------------------------------

constexpr int64_t kPart = 32, kResults = kPart * kPart, kSumThreads = 1024, kSumBlocks = 8;
constexpr int64_t kMostGroupBytes = 225 << 10;                           // of shared memory
constexpr int64_t kFewLines = 32, kMostNarrow = 128, kLeastLong = 4096;  // columns; terms of a sum

int64_t part_tiles_of(const Dims& dims) {
  return dims.at("batch") * divide_up(dims.at("M"), kPart) * divide_up(dims.at("N"), kPart);
}

// Parts of K, of at least two steps of each warp.
int64_t cuda_parts_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t most = divide_up(dims.at("K"), kPart) / (2 * knobs.at("WARPS"));
  return std::clamp<int64_t>(knobs.at("BLOCKS") / part_tiles_of(dims), 1,
                             std::max<int64_t>(most, 1));
}

// Blocks of 16 bits leave room for a second one on a multiprocessor.
spec::Space cuda_parts_space(Dtype t, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  const bool is_wide = t == Dtype::float32;
  const std::vector<int64_t> one_first = {132, 66, 264}, two_first = {264, 132, 528};
  spec::Space space;
  space.knobs = {{"WARPS", {8, 4}, log2, source, "warps of a block"},
                 {"STAGES", {3, 2, 4, 6}, linear, source, "tiles that a warp has in shared memory"},
                 {"TILE_BYTES", {kResults * spec::size_of(t)}, linear, source, "bytes of a tile"},
                 {"BLOCKS", is_wide ? one_first : two_first, linear, launch,
                  "blocks that share the tiles, at least"}};
  space.constraints = {
      {"a block has 227 KiB of shared memory",
       {"WARPS", "STAGES", "TILE_BYTES"},
       [](const int64_t* v) { return v[0] * v[1] * 2 * v[2] <= kMostGroupBytes; }}};
  return space;
}

std::vector<spec::Stage> cuda_parts_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t parts = cuda_parts_of(dims, knobs), tiles = part_tiles_of(dims),
                warps = knobs.at("WARPS");
  spec::Stage products{"mlx_kd_matmul_parts", {}, parts};
  products.launch.group[0] = 32 * warps;
  products.launch.grid[0] = tiles * parts * 32 * warps;
  products.launch.shared_bytes = warps * knobs.at("STAGES") * 2 * knobs.at("TILE_BYTES");
  if (parts == 1) return {products};
  spec::Stage sums{"mlx_kd_matmul_parts_sums", {}, parts};
  sums.launch.group[0] = kSumThreads;
  sums.launch.grid[0] = tiles * kSumBlocks * kSumThreads;
  return {products, sums};
}

// Few rows or columns, or so few of both that large tiles leave most of the GPU idle.
bool is_narrow(const Dims& dims) {
  const int64_t m = dims.at("M"), n = dims.at("N");
  const bool is_long = dims.at("K") >= kLeastLong || dims.at("batch") > 1;
  return std::min(m, n) <= kFewLines || (is_long && std::max(m, n) <= kMostNarrow);
}

spec::Variant cuda_parts() {
  spec::Variant variant = variant_in_cuda("parts", "matmul_parts");
  variant.space = cuda_parts_space;
  variant.stages = cuda_parts_stages;
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    const int64_t parts = cuda_parts_of(dims, knobs);
    return std::vector<int64_t>{parts == 1 ? 16 : part_tiles_of(dims) * parts * kResults * 4};
  };
  variant.suits = is_narrow;
  return variant;
}

// --- small, as in matmul_small.cu ------------------------------------------------------------

spec::Variant cuda_small() {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  constexpr int64_t kLeastMany = 4, kMostSmall = 1024;  // matrices; results, and terms of a sum
  spec::Variant variant = variant_in_cuda("small", "matmul_small");
  variant.space = [](Dtype, const spec::DeviceTraits&) {
    spec::Space space;
    space.knobs = {{"THREADS", {256, 128, 512}, log2, launch, "threads of a block"}};
    return space;
  };
  variant.launch = [](const Dims& dims, const spec::Setting& knobs) {
    spec::Launch launch;
    launch.group[0] = knobs.at("THREADS");
    launch.grid[0] = dims.at("batch") * dims.at("M") * dims.at("N");
    return launch;
  };
  variant.suits = [](const Dims& dims) {
    return dims.at("batch") >= kLeastMany && dims.at("M") * dims.at("N") <= kMostSmall &&
           dims.at("K") <= kMostSmall;
  };
  return variant;
}

}  // namespace

std::vector<spec::Variant> cuda_variants() {
  return {cuda_small(), cuda_parts(), cuda_tiles()};
}

}  // namespace mlx_kd::kernels::general_product
