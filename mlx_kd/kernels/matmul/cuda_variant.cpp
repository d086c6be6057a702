#include "mlx_kd/kernels/matmul/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/matmul/expert_kernels.h"
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
    space.knobs.push_back({"ROWS", {2, 1, 4}, log2, source, "rows of W of a tile"});
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

// --- many tokens with chosen experts ---------------------------------------------------------

// As in grouped.cu.h and grouped_tiles.cu.h.
constexpr int64_t kMostTokens = 96, kGroupThreads = 1024, kRowThreads = 256, kTileThreads = 384;
constexpr int64_t kAnyThreads = 256, kAnyRows = 64, kUnitRows = 256;
constexpr int64_t kHalfRows = 64, kCopy = 16, kWideCopy = 64;
constexpr int64_t kDenseDepth = 64, kCodeDepth = 128;  // columns of a stage
constexpr int64_t kNumbersPer16Bytes = 8, kCodesOfAWord = 8;
constexpr int64_t kMostOfABlock = 227 << 10;  // bytes of shared memory
constexpr int64_t kRowBlocks = 1056;

int64_t pairs_of(const Dims& dims) {
  return dims.at("M") * dims.at("A");
}

int64_t most_tiles(const Dims& dims) {
  return pairs_of(dims) / kMostTokens + std::min(pairs_of(dims), dims.at("E"));
}

int64_t slots_of(const Dims& dims) {
  return divide_up(pairs_of(dims) + 7 * std::min(pairs_of(dims), dims.at("E")), 8) * 8;
}

int64_t shared_bytes_of(const Kind& kind, int64_t stages) {
  const int64_t of_x = 2 * kMostTokens, of_w = 4 * kHalfRows;  // bytes, halves of bytes of a column
  const int64_t stage =
      kind.quantised ? kCodeDepth * (of_x + of_w / 2) + 2048 : kDenseDepth * (of_x + of_w * 2);
  return stages * (stage + 16) + 2 * kMostTokens * 128;
}

bool tensor_cores_take(const Kind& kind, Dtype t, const Dims& dims) {
  const int64_t k = dims.at("K");
  if (t == Dtype::float32 || k == 0) return false;
  if (!kind.quantised) return k % kNumbersPer16Bytes == 0;
  const Format format = format_of(dims);
  if (k % kCodeDepth != 0) return false;
  return format.mode == kMxfp4 || (format.mode == kAffine && format.bits == 4);
}

std::string tile_kernel(const Kind& kind, const Dims& dims) {
  const std::string name = "mlx_kd_" + kind.name;
  if (!kind.quantised) return name + "_tiles";
  const Format format = format_of(dims);
  return format.mode == kMxfp4 ? name + "_mxfp4" : name + "_4_" + std::to_string(format.group);
}

// The rows by slot in copies of 16 and of 64, and the matrices of W: words of codes, or numbers.
std::vector<spec::TensorMap> maps_of(const Kind& kind, const Dims& dims) {
  using enum spec::TensorMap::Array;
  const int64_t k = dims.at("K"), rows = dims.at("E") * dims.at("N");
  const auto matrices = static_cast<int64_t>(matrices_of(kind));
  const int64_t unit = kUnitRows / matrices;
  std::vector<spec::TensorMap> maps;
  for (const int64_t slots : {kCopy, kWideCopy})
    maps.push_back({scratch, 1, 2, {k, slots_of(dims)}, k, {64, slots}, 128});
  for (size_t i = 0; i < matrices_of(kind); ++i) {
    const size_t port = 2 + arrays_each(kind) * i;
    const int64_t words = k / kCodesOfAWord, depth = kCodeDepth / kCodesOfAWord;
    if (kind.quantised)
      maps.push_back({input, port, 4, {words, rows}, words, {depth, unit}, 64});
    else
      maps.push_back({input, port, 2, {k, rows}, k, {kDenseDepth, unit}, 128});
  }
  return maps;
}

spec::Stage stage_of_tiles(const Kind& kind, const Dims& dims, const spec::Setting& knobs) {
  const int64_t units = most_tiles(dims) * divide_up(dims.at("N"), kUnitRows / matrices_of(kind));
  spec::Stage stage{tile_kernel(kind, dims), {}};
  stage.launch.group = {kTileThreads, 1, 1};
  stage.launch.grid = {std::min(knobs.at("BLOCKS"), units) * kTileThreads, 1, 1};
  stage.launch.shared_bytes = shared_bytes_of(kind, knobs.at("STAGES"));
  stage.tensor_maps = maps_of(kind, dims);
  return stage;
}

std::vector<spec::Stage> grouped_stages(const Kind& kind, const Dims& dims,
                                        const spec::Setting& knobs) {
  const std::string name = "mlx_kd_" + kind.name;
  spec::Stage groups{name, {}};
  groups.launch.grid = groups.launch.group = {kGroupThreads, 1, 1};
  if (knobs.at("TENSOR") && tensor_cores_take(kind, Dtype::bfloat16, dims)) {
    spec::Stage rows{name + "_rows", {}};
    rows.launch.group = {kRowThreads, 1, 1};
    const int64_t threads = slots_of(dims) * dims.at("K") / (kind.quantised ? 32 : 8);
    rows.launch.grid = {std::min(divide_up(threads, kRowThreads), kRowBlocks) * kRowThreads, 1, 1};
    return {groups, rows, stage_of_tiles(kind, dims, knobs)};
  }
  spec::Stage any{name + "_any", {}};
  any.launch.group = {kAnyThreads, 1, 1};
  any.launch.grid = {most_tiles(dims) * kAnyThreads, divide_up(dims.at("N"), kAnyRows), 1};
  return {groups, any};
}

std::vector<int64_t> grouped_scratch(const Kind& kind, Dtype t, const Dims& dims,
                                     const spec::Setting& knobs) {
  const int64_t slots = slots_of(dims);
  const int64_t groups = 16 + 16 * most_tiles(dims) + 4 * dims.at("E") + 4 * slots;
  if (!knobs.at("TENSOR") || !tensor_cores_take(kind, t, dims)) return {groups, 16, 16};
  return {groups, slots * dims.at("K") * 2,
          kind.quantised ? (group_count(dims) * slots + kMostTokens) * 4 : 16};
}

spec::Space grouped_space(const Kind& kind, Dtype t) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  if (t == Dtype::float32) {
    space.knobs = {{"TENSOR", {0}, choice, launch, "products run on", {"ordinary units"}}};
    return space;
  }
  space.knobs = {
      {"TENSOR", {1, 0}, choice, launch, "products run on", {"tensor cores", "ordinary units"}},
      {"STAGES", {4, 2, 3}, linear, source, "stages of columns in shared memory"},
      {"BLOCKS", {132, 114, 78}, linear, launch, "blocks that share the tiles"}};
  space.constraints = {
      {"a block has 227 KiB of shared memory",
       {"STAGES"},
       [kind](const int64_t* v) { return shared_bytes_of(kind, v[0]) <= kMostOfABlock; }},
      {"without tensor cores nothing else counts",
       {"TENSOR", "STAGES", "BLOCKS"},
       [](const int64_t* v) { return v[0] == 1 || (v[1] == 4 && v[2] == 132); }}};
  return space;
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

spec::Variant cuda_variant_of_groups(const Kind& kind) {
  spec::Variant variant = variant_in_cuda(kind);
  variant.name = "warpgroups";
  variant.space = [kind](Dtype t, const spec::DeviceTraits&) { return grouped_space(kind, t); };
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return grouped_stages(kind, dims, knobs);
  };
  variant.scratch = [kind](Dtype t, const Dims& dims, const spec::Setting& knobs) {
    return grouped_scratch(kind, t, dims, knobs);
  };
  return variant;
}

}  // namespace mlx_kd::kernels::matmul
