#include "mlx_kd/kernels/mlstm/cuda_variant.h"

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::mlstm {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;

// As in the source.
constexpr int64_t kFew = 64, kGroup = 128;                 // threads
constexpr int64_t kSide = 64, kRows = 64, kColumns = 128;  // of the memory; of h
constexpr int64_t kGateBytes = 32, kStepBytes = 28;

// Shared memory of a group in KiB follows from the type: a knob of one value.
spec::Space chunk_space(Dtype t, const spec::DeviceTraits&) {
  constexpr int64_t kWide = 106, kNarrow = 54;
  spec::Space space;
  space.knobs = {{"SHELF",
                  {t == Dtype::float32 ? kWide : kNarrow},
                  spec::KnobScale::linear,
                  spec::KnobRole::launch,
                  "KiB of queries, keys and values of a group"},
                 {"CHUNK",
                  {128, 64, 256, 512},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "tokens between states that are kept"}};
  return space;
}

spec::Stage groups_of(const std::string& function, int64_t threads, int64_t groups, int64_t rows,
                      int64_t chunk) {
  spec::Stage stage{function, {}, chunk};
  stage.launch.group = {threads, 1, 1};
  stage.launch.grid = {groups * threads, rows, 1};
  return stage;
}

int64_t tiles_of(const Dims& dims) {
  return divide_up(dims.at("DHQK"), kSide) * divide_up(dims.at("DHHV"), kSide);
}

// What chunks do to m, m before each, the gates, the memory before each chunk, h.
std::vector<spec::Stage> stages_of_forward(const std::string& name, const Dims& dims,
                                           const Setting& knobs) {
  const int64_t heads = dims.at("heads"), chunk = chunk_of(dims, knobs.at("CHUNK"));
  const int64_t hv = dims.at("DHHV"), chunks = heads * divide_up(dims.at("S"), chunk);
  spec::Stage rows =
      groups_of(name, kGroup, chunks * divide_up(chunk, kRows), divide_up(hv, kColumns), chunk);
  rows.launch.shared_bytes = knobs.at("SHELF") << 10;
  return {groups_of(name + "_steps", kFew, divide_up(chunks, kFew), 1, chunk),
          groups_of(name + "_course", kFew, divide_up(heads, kFew), 1, chunk),
          groups_of(name + "_gates", kFew, divide_up(chunks, kFew), 1, chunk),
          groups_of(name + "_states", kGroup, heads, tiles_of(dims), chunk), rows};
}

std::vector<int64_t> scratch_of_forward(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t heads = dims.at("heads"), s = dims.at("S"), qk = dims.at("DHQK");
  const int64_t chunks = heads * divide_up(s, chunk_of(dims, knobs.at("CHUNK")));
  return {heads * s * (kGateBytes + 4), 4 * chunks * qk * dims.at("DHHV"),
          4 * (chunks * qk + heads), chunks * kStepBytes};
}

// ---- backward: chunks of at most kRows tokens

constexpr int64_t kNumberBytes = 32, kTurnBytes = 16;

// As forward; 1 / (N + eps) and dq, the memory's cotangents, dk and dv, what m hands back, di and
// df.
std::vector<spec::Stage> stages_of_backward(const std::string& name, const Dims& dims,
                                            const Setting& knobs) {
  const int64_t heads = dims.at("heads"), chunk = knobs.at("CHUNK");
  const int64_t chunks = heads * divide_up(dims.at("S"), chunk);
  const int64_t few = knobs.at("FEW");
  const auto by_chunk = [&](const char* part, int64_t threads) {
    const int64_t groups = threads == kGroup ? chunks : divide_up(chunks, threads);
    return groups_of(name + part, threads, groups, 1, chunk);
  };
  const auto by_head = [&](const char* part) {
    return groups_of(name + part, few, divide_up(heads, few), 1, chunk);
  };
  const auto by_tile = [&](const char* part) {
    return groups_of(name + part, kGroup, heads, tiles_of(dims), chunk);
  };
  return {by_chunk("_steps", few),
          by_head("_course"),
          by_chunk("_gates", few),
          by_tile("_states"),
          by_chunk("_rows", kGroup),
          by_tile("_cotangents"),
          by_chunk("_columns", kGroup),
          by_chunk("_turns", few),
          by_head("_carry"),
          by_chunk("", few)};
}

std::vector<int64_t> scratch_of_backward(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t heads = dims.at("heads"), tokens = heads * dims.at("S"), qk = dims.at("DHQK");
  const int64_t chunks = heads * divide_up(dims.at("S"), knobs.at("CHUNK"));
  return {tokens * (kGateBytes + 4 + kNumberBytes + 4 * qk), 8 * chunks * qk * dims.at("DHHV"),
          4 * (2 * chunks * qk + heads + chunks * tiles_of(dims)) + chunks * kTurnBytes,
          chunks * kStepBytes};
}

spec::Space backward_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"CHUNK",
                  {kRows, kRows / 2},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "tokens between states that are kept"},
                 {"FEW",
                  {kFew, kFew / 2},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "threads of a group whose threads each take a chunk or a head"}};
  return space;
}

using Stages = std::vector<spec::Stage>(const std::string&, const Dims&, const Setting&);

spec::Variant variant_on_cuda(const std::string& op, const std::string& source, Stages* stages) {
  spec::Variant variant;
  variant.name = "chunks";
  variant.language = "cuda";
  variant.source = kernel_source(source);
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cuda_arguments";
  variant.stages = [name = variant.func_name, stages](const Dims& dims, const Setting& knobs) {
    return stages(name, dims, knobs);
  };
  return variant;
}

}  // namespace

spec::Variant forward_on_cuda(const std::string& op, const std::string& source) {
  spec::Variant variant = variant_on_cuda(op, source, stages_of_forward);
  variant.space = chunk_space;
  variant.scratch = scratch_of_forward;
  return variant;
}

spec::Variant backward_on_cuda(const std::string& op, const std::string& source) {
  spec::Variant variant = variant_on_cuda(op, source, stages_of_backward);
  variant.space = backward_space;
  variant.scratch = scratch_of_backward;
  return variant;
}

}  // namespace mlx_kd::kernels::mlstm
