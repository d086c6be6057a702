#include "mlx_kd/kernels/mlstm/metal_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::mlstm {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kGateFloats = 8, kRowFloats = 8, kFloatBytes = 4;  // as in the sources
constexpr int64_t kFlatGroup = 64;  // threads of a group where any number will do

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"CHUNK", {64, 16, 32, 128, 256}, log2, source, "tokens of a chunk at most"},
                 {"ROWS", {4, 2, 8}, log2, source, "tokens of a threadgroup, and rows of a thread"},
                 {"THREADS", {128, 32, 64, 256}, log2, source, "threads of a threadgroup"}};
  return space;
}

// The tokens of a chunk and what follows from them.
struct Chunks {
  int64_t tokens, count, blocks, states;
  Chunks(const Dims& dims, const Setting& knobs)
      : tokens(std::min(chunk_of(dims, knobs.at("CHUNK")), knobs.at("CHUNK"))),
        count(divide_up(dims.at("S"), tokens)),
        blocks(divide_up(tokens, knobs.at("ROWS"))),
        states(dims.at("heads") * divide_up(dims.at("DHQK"), knobs.at("ROWS")) *
               (dims.at("DHHV") + 1)) {}
};

spec::Stage stage_of(const std::string& function, int64_t threads, int64_t group, int64_t index) {
  spec::Stage stage{function, {}, index};
  stage.launch.group[0] = group;
  stage.launch.grid[0] = divide_up(threads, group) * group;
  return stage;
}

std::vector<spec::Stage> forward_stages(const std::string& function, const Dims& dims,
                                        const Setting& knobs) {
  const Chunks chunks(dims, knobs);
  const int64_t heads = dims.at("heads"), threads = knobs.at("THREADS");
  return {
      stage_of("mlx_kd_mlstm_gates", heads, std::min(heads, kFlatGroup), chunks.tokens),
      stage_of("mlx_kd_mlstm_states", chunks.states, kFlatGroup, chunks.tokens),
      stage_of(function, heads * chunks.count * chunks.blocks * threads, threads, chunks.tokens)};
}

int64_t bytes_of_states(const Dims& dims, const Chunks& chunks) {
  return dims.at("heads") * chunks.count * dims.at("DHQK") * (dims.at("DHHV") + 1) * kFloatBytes;
}

std::vector<int64_t> forward_scratch(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t heads = dims.at("heads");
  return {heads * dims.at("S") * kGateFloats * kFloatBytes,
          bytes_of_states(dims, Chunks(dims, knobs)), heads * kFloatBytes};
}

std::vector<spec::Stage> backward_stages(const std::string& function, const Dims& dims,
                                         const Setting& knobs) {
  const Chunks chunks(dims, knobs);
  const int64_t heads = dims.at("heads"), threads = knobs.at("THREADS");
  const int64_t group = std::min(heads, kFlatGroup), groups = heads * chunks.count;
  return {
      stage_of("mlx_kd_mlstm_gates", heads, group, chunks.tokens),
      stage_of("mlx_kd_mlstm_states", chunks.states, kFlatGroup, chunks.tokens),
      stage_of("mlx_kd_mlstm_rows", groups * chunks.blocks * threads, threads, chunks.tokens),
      stage_of("mlx_kd_mlstm_cotangents", chunks.states, kFlatGroup, chunks.tokens),
      stage_of("mlx_kd_mlstm_columns", groups * chunks.blocks * threads, threads, chunks.tokens),
      stage_of("mlx_kd_mlstm_between", groups * threads, threads, chunks.tokens),
      stage_of(function, heads, group, chunks.tokens)};
}

std::vector<int64_t> backward_scratch(Dtype, const Dims& dims, const Setting& knobs) {
  const Chunks chunks(dims, knobs);
  const int64_t tokens = dims.at("heads") * dims.at("S"), states = bytes_of_states(dims, chunks);
  return {tokens * (kGateFloats + kRowFloats + dims.at("DHQK")) * kFloatBytes, states,
          tokens * 3 * chunks.tokens * kFloatBytes, states};
}

using Stages = std::vector<spec::Stage>(const std::string&, const Dims&, const Setting&);
using Scratch = std::vector<int64_t>(Dtype, const Dims&, const Setting&);

spec::Variant variant_of(const std::string& name, const std::string& source, Stages* stages,
                         Scratch* scratch) {
  spec::Variant variant;
  variant.name = "chunks";
  variant.language = "metal";
  variant.source = kernel_source(source);
  variant.func_name = "mlx_kd_" + name;
  variant.launch_kind = "metal_groups";
  variant.space = metal_space;
  variant.stages = [function = variant.func_name, stages](const Dims& dims, const Setting& knobs) {
    return stages(function, dims, knobs);
  };
  variant.scratch = scratch;
  return variant;
}

}  // namespace

spec::Variant forward_on_metal(const std::string& name, const std::string& source) {
  return variant_of(name, source, forward_stages, forward_scratch);
}

spec::Variant backward_on_metal(const std::string& name, const std::string& source) {
  return variant_of(name, source, backward_stages, backward_scratch);
}

}  // namespace mlx_kd::kernels::mlstm
