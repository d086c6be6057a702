#include "mlx_kd/kernels/matmul/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kWarp = 32;
constexpr int64_t kCodeRows = 16;           // of a tile, as in codes.cu.h
constexpr int64_t kMostShared = 100 << 10;  // bytes of a block: two fit a multiprocessor

// What registers allow: two chunks, and sums.
spec::Space cuda_space(const Kind& kind) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  using Values = std::vector<int64_t>;
  const Values few_blocks = {132, 264, 396, 528, 1056}, many_blocks = {264, 132, 396, 528, 1056};
  space.knobs = {
      {"WARPS", {16, 2, 4, 8}, log2, source, "warps of a block"},
      {"BLOCKS", kind.quantised ? few_blocks : many_blocks, log2, launch,
       "blocks that share the tiles"},
      {"UNROLL", kind.quantised ? Values{4, 2, 8} : Values{2, 4, 8}, log2, source,
       "loads of a row that are requested together"},
      {"XROWS", {1, 2, 4}, log2, source, "rows of x of a block"},
      {"CACHE", {1, 0}, choice, source, "W is read", {"as what is used once", "as any array"}}};
  if (!kind.quantised)
    space.knobs.push_back({"ROWS", {2, 1, 4, 8}, log2, source, "rows of W of a tile"});
  if (kind.quantised)
    space.constraints.push_back({"a thread has 128 registers",
                                 {"UNROLL", "XROWS"},
                                 [](const int64_t* v) { return v[0] * v[1] <= 8; }});
  else
    space.constraints.push_back({"a thread requests at most 8 loads",
                                 {"ROWS", "UNROLL"},
                                 [](const int64_t* v) { return v[0] * v[1] <= 8; }});
  return space;
}

// A block takes one row of x; there are blocks for each pair of token and expert.
spec::Space cuda_space_of_experts(const Kind& kind) {
  spec::Space space = cuda_space(kind);
  std::erase_if(space.knobs, [](const spec::Knob& knob) { return knob.name == "XROWS"; });
  space.constraints.clear();
  for (spec::Knob& knob : space.knobs) {
    if (knob.name == "WARPS") knob.values = {8, 2, 4, 16};
    if (knob.name == "BLOCKS") knob.values = {32, 8, 16, 64};
  }
  return space;
}

int64_t block_rows_of(const spec::Setting& knobs) {
  return knobs.has("XROWS") ? knobs.at("XROWS") : 1;
}

// What the name of a format's own kernel ends in (forms.cu.h); "" for formats and sizes without
// one.
std::string own_kernel(const Format& format, int64_t k) {
  if (format.mode != kDense && k / format.group % 2 != 0) return "";  // scales are read in pairs
  if (format.mode == kNvfp4) return k % kWarp == 0 ? "_nvfp4" : "";
  if (format.mode == kMxfp4) return "_mxfp4";
  if (format.mode != kAffine || (format.bits != 4 && format.bits != 8)) return "";
  return "_" + std::to_string(format.bits) + "_" + std::to_string(format.group);
}

// How the tiles of a call are shared: blocks, tiles of one, chunks of K of a tile, bytes of x.
struct Shares {
  int64_t blocks, tiles, chunks, rows, x_bytes;
};

// No block has more sums than fit next to x.
Shares shares_of(const Kind& kind, const Dims& dims, const spec::Setting& knobs) {
  const int64_t k = dims.at("K"), loads = knobs.at("UNROLL"), x_rows = block_rows_of(knobs);
  const Format format = format_of(dims);
  Shares shares{0, 0, 0, kind.quantised ? kCodeRows : knobs.at("ROWS"), 0};
  if (!kind.quantised) {  // the chunks of float32 have half as many elements
    shares.chunks = divide_up(k, loads * kWarp * 4);
    shares.x_bytes = 16 + x_rows * divide_up(k, 8) * 16;
  } else if (own_kernel(format, k).empty()) {
    shares.chunks = divide_up(k, 512);
  } else {
    const int64_t chunk = loads * 512 / format.bits;
    shares.chunks = divide_up(k, chunk);
    const int64_t columns = shares.chunks * chunk;
    shares.x_bytes = 128 + x_rows * (columns * 2 + divide_up(columns / format.group, 2) * 8);
  }
  int64_t tiles = 0;
  for (const std::string& name : rows_of(kind.form)) tiles += divide_up(dims.at(name), shares.rows);
  const int64_t together = kind.form == Form::gated ? 2 : 1;  // tiles of the gate and of up
  const int64_t bytes = shares.chunks * shares.rows * x_rows * 4;
  const int64_t most = std::max<int64_t>(1, (kMostShared - shares.x_bytes) / bytes / together);
  tiles /= together;
  shares.blocks = std::max(std::min(tiles, knobs.at("BLOCKS")), divide_up(tiles, most));
  shares.tiles = divide_up(tiles, shares.blocks) * together;
  return shares;
}

// `pairs`: rows of blocks, one for XROWS rows of x or one for a pair.
spec::Stage cuda_stage(const Kind& kind, const Dims& dims, const spec::Setting& knobs,
                       int64_t pairs) {
  spec::Stage stage{"mlx_kd_" + kind.name, {}};
  if (kind.quantised) stage.func_name += own_kernel(format_of(dims), dims.at("K"));
  const Shares shares = shares_of(kind, dims, knobs);
  stage.launch.group = {knobs.at("WARPS") * kWarp, 1, 1};
  stage.launch.grid = {shares.blocks * stage.launch.group[0], pairs, 1};
  stage.launch.shared_bytes =
      shares.x_bytes + shares.tiles * shares.chunks * shares.rows * block_rows_of(knobs) * 4;
  return stage;
}

spec::Variant variant_in_cuda(const Kind& kind) {
  spec::Variant variant;
  variant.name = "tiles";
  variant.language = "cuda";
  variant.source = kernel_source("matmul/" + kind.name + "/" + kind.name + ".cu");
  variant.func_name = "mlx_kd_" + kind.name;
  variant.launch_kind = "cuda_arguments";
  return variant;
}

}  // namespace

spec::Variant cuda_variant(const Kind& kind) {
  spec::Variant variant = variant_in_cuda(kind);
  variant.space = [kind](Dtype, const spec::DeviceTraits&) { return cuda_space(kind); };
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    const int64_t pairs = divide_up(dims.at("M"), knobs.at("XROWS"));
    return std::vector<spec::Stage>{cuda_stage(kind, dims, knobs, pairs)};
  };
  return variant;
}

spec::Variant cuda_variant_of_experts(const Kind& kind) {
  spec::Variant variant = variant_in_cuda(kind);
  variant.space = [kind](Dtype, const spec::DeviceTraits&) { return cuda_space_of_experts(kind); };
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return std::vector<spec::Stage>{cuda_stage(kind, dims, knobs, dims.at("M") * dims.at("A"))};
  };
  return variant;
}

}  // namespace mlx_kd::kernels::matmul
