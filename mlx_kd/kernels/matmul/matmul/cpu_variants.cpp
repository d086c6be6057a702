#include "mlx_kd/kernels/matmul/matmul/cpu_variants.h"

#include <algorithm>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::general_product {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kNarrow = 16;        // bytes of the narrowest vector
constexpr int64_t kRegisterRows = 32;  // of a tile in tile registers (tile_registers.cpu.h)
constexpr const char* kTileFits = "a tile fits in registers";

// --- what variants have in common -----------------------------------------------------------

spec::Variant cpu_variant(const std::string& name, const std::string& source) {
  spec::Variant variant;
  variant.name = name;
  variant.language = "cpp";
  variant.source = kernel_source("matmul/matmul/" + source + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + source;
  variant.launch_kind = "cpp_arguments";
  return variant;
}

bool has_dot(Dtype t, const spec::DeviceTraits& traits) {
  return t == Dtype::bfloat16 && has_dots(traits);
}

void add_dot_knob(spec::Space& space, Dtype t, const spec::DeviceTraits& traits) {
  if (!has_dot(t, traits)) return;
  space.knobs.push_back(
      {"DOT", {1, 0}, choice, source, "products are", {"dot products of bfloat16", "float32"}});
  space.constraints.push_back({"dot products have vectors of 64 bytes",
                               {"VEC", "DOT"},
                               [](const int64_t* v) { return v[0] == 64 || v[1] == 0; }});
}

int64_t registers_of(const spec::DeviceTraits& traits) {
  return is_x86(traits) && !has_isa(traits, {"avx512f"}) ? 16 : 32;
}

// Rows and vectors of a tile whose sums stay in registers; `rows`: where there are 32 of them.
void add_tile_knobs(spec::Space& space, const spec::DeviceTraits& traits,
                    const std::vector<int64_t>& rows, const std::vector<int64_t>& vectors) {
  const int64_t registers = registers_of(traits);
  const std::vector<int64_t> few = {6, 4};
  space.knobs.push_back({"TILE_M", registers == 32 ? rows : few, linear, source, "rows of a tile"});
  space.knobs.push_back({"TILE_N", vectors, linear, source, "vectors of columns of a tile"});
  space.constraints.push_back({kTileFits, {"TILE_M", "TILE_N"}, [registers](const int64_t* v) {
                                 return v[0] * v[1] + v[1] < registers;
                               }});
  space.knobs.push_back({"UNROLL", {4, 1, 2}, log2, source, "steps a turn of the innermost loop"});
}

void add_shares(spec::Space& space, const spec::DeviceTraits& traits, int64_t tasks) {
  const int64_t cores = std::max(traits.cores, 1);
  std::vector<int64_t> threads = {cores}, more = {tasks};
  for (int64_t count = 1; count < cores; count *= 2) threads.push_back(count);
  for (const int64_t count : {1, 2, 4, 8})
    if (count != tasks) more.push_back(count);
  space.knobs.push_back({"THREADS", threads, log2, launch, "threads at most"});
  space.knobs.push_back({"TASKS", more, log2, launch, "tasks per thread"});
  space.constraints.push_back({"TASKS is " + std::to_string(tasks) + " where THREADS is 1",
                               {"THREADS", "TASKS"},
                               [tasks](const int64_t* v) { return v[0] > 1 || v[1] == tasks; }});
}

// Units in tasks for the threads; the stage's index is how many units a task has.
spec::Stage shared_stage(const std::string& function, int64_t units, const Setting& knobs) {
  const int64_t threads = knobs.at("THREADS");
  const int64_t grain = std::max<int64_t>(1, divide_up(units, threads * knobs.at("TASKS")));
  spec::Stage stage{function, {}, grain};
  stage.launch.grid[0] = units;
  stage.launch.group[0] = grain;
  stage.launch.threads = static_cast<int>(std::clamp<int64_t>(divide_up(units, grain), 1, threads));
  return stage;
}

// --- which variant for which size -------------------------------------------------------------

// An operand of few rows or columns, and one that is large enough to be read once.
bool is_stream(const Dims& dims) {
  const int64_t m = dims.at("M"), n = dims.at("N");
  return std::min(m, n) <= 16 && std::max(m, n) >= 256;
}
// Many products of a few rows and columns.
bool is_tiny(const Dims& dims) {
  return dims.at("batch") >= 4 && dims.at("N") <= 8 && dims.at("M") <= 64;
}
// Products that fit in the caches while K goes by, many of them or of a long K.
bool is_in_parts(const Dims& dims) {
  const int64_t m = dims.at("M"), n = dims.at("N"), k = dims.at("K");
  const bool is_small = m * n <= 64 * 64 || (m + n) * k <= 64 * 256;
  return !is_stream(dims) && is_small && (dims.at("batch") >= 4 || k >= 16 * (m + n));
}

// --- blocks -----------------------------------------------------------------------------------

// Whether words are pairs of bfloat16.
bool has_pairs(const Setting& knobs) {
  return knobs.has("DOT") && knobs.at("DOT") > 0;
}
bool has_tile_registers(const Setting& knobs) {
  return knobs.has("DOT") && knobs.at("DOT") == 2;
}

// DOT 2, the default, with the one tile that they have.
void add_tile_registers(spec::Space& space) {
  const auto knob = [&](const char* name) -> spec::Knob& {
    return *std::find_if(space.knobs.begin(), space.knobs.end(),
                         [&](const spec::Knob& one) { return one.name == name; });
  };
  spec::Knob& dot = knob("DOT");
  dot.values.insert(dot.values.begin(), 2);
  dot.labels.insert(dot.labels.begin(), "products of matrices of bfloat16");
  std::vector<int64_t>& rows = knob("TILE_M").values;
  rows.insert(rows.begin(), kRegisterRows);
  std::erase_if(space.constraints,
                [](const spec::Constraint& one) { return one.text == kTileFits; });
  space.constraints.push_back({kTileFits, {"DOT", "TILE_M", "TILE_N"}, [](const int64_t* v) {
                                 if (v[0] == 2) return v[1] == kRegisterRows && v[2] == 2;
                                 return v[1] * v[2] + v[2] < 32;
                               }});
  space.constraints.push_back(
      {"products of matrices are not unrolled, and nothing is prefetched",
       {"DOT", "UNROLL", "PREFETCH"},
       [](const int64_t* v) { return v[0] != 2 || (v[1] == 4 && v[2] == 0); }});
}

spec::Space blocks_space(Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits)};
  add_dot_knob(space, t, traits);
  add_tile_knobs(space, traits, {12, 6, 8, 14}, {2, 3});
  space.knobs.push_back({"BLOCK_M", {256, 128, 512}, log2, source, "rows of a block at most"});
  space.knobs.push_back({"BLOCK_N", {512, 256, 1024}, log2, source, "columns of a block at most"});
  space.knobs.push_back({"BLOCK_K", {256, 128, 384, 512}, linear, source, "steps of K at a time"});
  space.knobs.push_back({"PREFETCH", {0, 512}, linear, source, "bytes ahead in panels of b"});
  add_shares(space, traits, 2);
  if (has_matrices(t, traits)) add_tile_registers(space);
  return space;
}

// Of one axis of y, as in the source.
struct Cut {
  int64_t panels, blocks, each;
};
Cut cut(int64_t count, int64_t width, int64_t block, int64_t batch) {
  const int64_t panels = divide_up(count, width);
  const int64_t least = batch < 4 ? std::min<int64_t>(4, panels) : 1;
  const int64_t blocks = std::max(divide_up(count, block), least);
  return {panels, blocks, divide_up(panels, blocks)};
}

struct Cuts {
  Cut rows, columns;
  int64_t units;
};
Cuts cuts_of(const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch");
  const Cut rows = cut(dims.at("M"), knobs.at("TILE_M"), knobs.at("BLOCK_M"), batch);
  const Cut columns =
      cut(dims.at("N"), knobs.at("TILE_N") * knobs.at("VEC") / 4, knobs.at("BLOCK_N"), batch);
  return {rows, columns, batch * rows.blocks * columns.blocks};
}

std::vector<spec::Stage> blocks_stages(const Dims& dims, const Setting& knobs) {
  const Cuts cuts = cuts_of(dims, knobs);
  const int64_t panels = dims.at("batch") * (cuts.rows.panels + cuts.columns.panels);
  return {shared_stage("mlx_kd_matmul", panels, knobs),
          shared_stage("mlx_kd_matmul_blocks", cuts.units, knobs)};
}

// The packed operands, and for each task the sums of a block.
std::vector<int64_t> blocks_scratch(Dtype, const Dims& dims, const Setting& knobs) {
  const Cuts cuts = cuts_of(dims, knobs);
  const int64_t batch = dims.at("batch"), k = dims.at("K"), vector = knobs.at("VEC");
  const int64_t steps = has_tile_registers(knobs) ? divide_up(k, 32) * 16
                        : has_pairs(knobs)        ? divide_up(k, 2)
                                                  : k;
  const spec::Stage blocks = blocks_stages(dims, knobs)[1];
  const int64_t tasks = divide_up(cuts.units, blocks.index);
  const int64_t tile = knobs.at("TILE_M") * knobs.at("TILE_N") * vector;
  return {batch * cuts.rows.panels * steps * knobs.at("TILE_M") * 4,
          batch * cuts.columns.panels * steps * knobs.at("TILE_N") * vector,
          tasks * cuts.rows.each * cuts.columns.each * tile};
}

spec::Variant blocks() {
  spec::Variant variant = cpu_variant("blocks", "matmul");
  variant.space = blocks_space;
  variant.stages = blocks_stages;
  variant.scratch = blocks_scratch;
  variant.suits = [](const Dims& dims) {
    return !is_stream(dims) && !is_in_parts(dims) && !is_tiny(dims);
  };
  return variant;
}

// --- parts ------------------------------------------------------------------------------------

void add_parts_knobs(spec::Space& space, const spec::DeviceTraits& traits) {
  space.knobs.push_back({"BLOCK_K", {256, 64, 128, 512}, log2, source, "steps of K at a time"});
  space.knobs.push_back({"PARTS", {4, 1, 2, 8}, log2, launch, "parts of K per thread at most"});
  add_shares(space, traits, 4);
}

// Wide vectors; `small` has the others.
spec::Space parts_space(Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits)};
  if (traits.vector_bytes > kNarrow) std::erase(space.knobs[0].values, kNarrow);
  add_dot_knob(space, t, traits);
  add_tile_knobs(space, traits, {8, 4, 12}, {2, 1, 3});
  add_parts_knobs(space, traits);
  return space;
}

// Products of a few rows and columns each: tiles of one vector of 4 columns.
spec::Space small_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits)};
  space.knobs[0].values = {kNarrow};
  add_tile_knobs(space, traits, {4, 8}, {1, 2});
  add_parts_knobs(space, traits);
  return space;
}

// Of a call: parts of K, how many the kernel is given, tiles of y, bytes of their sums.
struct Parts {
  int64_t count, most, tiles, bytes;
};
Parts parts_of(const Dims& dims, const Setting& knobs) {
  constexpr int64_t kMostBytes = int64_t(64) << 20;  // of the sums of all parts
  const int64_t batch = dims.at("batch"), threads = knobs.at("THREADS"), vector = knobs.at("VEC");
  const int64_t steps = has_pairs(knobs) ? divide_up(dims.at("K"), 2) : dims.at("K");
  const int64_t blocks = divide_up(steps, knobs.at("BLOCK_K"));
  Parts parts;
  parts.tiles = divide_up(dims.at("M"), knobs.at("TILE_M")) *
                divide_up(dims.at("N"), knobs.at("TILE_N") * vector / 4);
  parts.bytes = parts.tiles * knobs.at("TILE_M") * knobs.at("TILE_N") * vector;
  parts.most = batch >= 4 * threads ? 1 : threads * knobs.at("PARTS");
  parts.most = std::clamp<int64_t>(kMostBytes / (batch * parts.bytes), 1, parts.most);
  parts.count = divide_up(blocks, divide_up(blocks, parts.most));
  return parts;
}

std::vector<spec::Stage> parts_stages(const Dims& dims, const Setting& knobs) {
  const Parts parts = parts_of(dims, knobs);
  spec::Stage products = shared_stage("mlx_kd_matmul_parts", dims.at("batch") * parts.count, knobs);
  products.index |= parts.most << 32;
  spec::Stage sums = shared_stage("mlx_kd_matmul_parts_sums",
                                  parts.count > 1 ? dims.at("batch") * parts.tiles : 0, knobs);
  sums.index = parts.count;
  return {products, sums};
}

// For each task its packed steps and, where it finishes products, its sums; else those of all
// parts.
std::vector<int64_t> parts_scratch(Dtype, const Dims& dims, const Setting& knobs) {
  const Parts parts = parts_of(dims, knobs);
  const spec::Launch launch = parts_stages(dims, knobs)[0].launch;
  const int64_t tasks = divide_up(launch.grid[0], launch.group[0]);
  const int64_t columns = knobs.at("TILE_N") * knobs.at("VEC") / 4;
  const int64_t words = divide_up(dims.at("M"), knobs.at("TILE_M")) * knobs.at("TILE_M") +
                        divide_up(dims.at("N"), columns) * columns;
  return {tasks * words * knobs.at("BLOCK_K") * 4,
          (parts.count > 1 ? launch.grid[0] : tasks) * parts.bytes};
}

spec::Variant parts(const std::string& name) {
  spec::Variant variant = cpu_variant(name, "matmul_parts");
  variant.space = parts_space;
  variant.stages = parts_stages;
  variant.scratch = parts_scratch;
  variant.suits = is_in_parts;
  return variant;
}

spec::Variant small() {
  spec::Variant variant = parts("small");
  variant.space = small_space;
  variant.suits = is_tiny;
  return variant;
}

// --- streams ----------------------------------------------------------------------------------

spec::Space streams_space(Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits)};
  add_dot_knob(space, t, traits);
  const std::vector<int64_t> four_first = {4, 2}, two = {2};
  space.knobs.push_back({"STREAMS", registers_of(traits) == 32 ? four_first : two, log2, source,
                         "rows of the stream that are read together"});
  space.knobs.push_back({"BLOCK_K", {512, 256, 1024}, log2, source, "steps of K at a time"});
  const std::vector<int64_t> large_first = {512, 128, 256}, small_first = {128, 256, 512};
  space.knobs.push_back({"CHUNK", traits.cores <= 4 ? large_first : small_first, log2, source,
                         "rows of the stream of a unit"});
  space.knobs.push_back({"GROUP", {4, 8}, log2, source, "steps of K that are added together"});
  space.knobs.push_back({"UNROLL", {4, 1, 2}, log2, source, "steps a turn of the innermost loop"});
  space.knobs.push_back({"PREFETCH", {2048, 0, 512}, linear, source, "bytes ahead in the stream"});
  add_shares(space, traits, 4);
  return space;
}

std::vector<spec::Stage> streams_stages(const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch"), m = dims.at("M"), n = dims.at("N");
  return {shared_stage("mlx_kd_matmul_streams", batch * std::min(m, n), knobs),
          shared_stage("mlx_kd_matmul_streams_rows",
                       batch * divide_up(std::max(m, n), knobs.at("CHUNK")), knobs)};
}

// The small operand as words, in whole vectors and groups.
std::vector<int64_t> streams_scratch(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t steps = has_pairs(knobs) ? divide_up(dims.at("K"), 2) : dims.at("K");
  const int64_t width = std::max(knobs.at("VEC") / 4, knobs.at("GROUP"));
  return {dims.at("batch") * std::min(dims.at("M"), dims.at("N")) * divide_up(steps, width) *
          width * 4};
}

spec::Variant streams() {
  spec::Variant variant = cpu_variant("streams", "matmul_streams");
  variant.space = streams_space;
  variant.stages = streams_stages;
  variant.scratch = streams_scratch;
  variant.suits = is_stream;
  return variant;
}

}  // namespace

std::vector<spec::Variant> cpu_variants() {
  return {blocks(), small(), parts("parts"), streams()};
}

}  // namespace mlx_kd::kernels::general_product
