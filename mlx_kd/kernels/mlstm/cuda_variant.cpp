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

// What chunks do to m, m before each, the gates, the memory before each chunk, h.
std::vector<spec::Stage> stages_of_forward(const std::string& name, const Dims& dims,
                                           const Setting& knobs) {
  const int64_t heads = dims.at("heads"), chunk = chunk_of(dims, knobs.at("CHUNK"));
  const int64_t qk = dims.at("DHQK"), hv = dims.at("DHHV");
  const int64_t chunks = heads * divide_up(dims.at("S"), chunk);
  const int64_t tiles = divide_up(qk, kSide) * divide_up(hv, kSide);
  spec::Stage rows =
      groups_of(name, kGroup, chunks * divide_up(chunk, kRows), divide_up(hv, kColumns), chunk);
  rows.launch.shared_bytes = knobs.at("SHELF") << 10;
  return {groups_of(name + "_steps", kFew, divide_up(chunks, kFew), 1, chunk),
          groups_of(name + "_course", kFew, divide_up(heads, kFew), 1, chunk),
          groups_of(name + "_gates", kFew, divide_up(chunks, kFew), 1, chunk),
          groups_of(name + "_states", kGroup, heads, tiles, chunk), rows};
}

std::vector<int64_t> scratch_of_forward(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t heads = dims.at("heads"), s = dims.at("S"), qk = dims.at("DHQK");
  const int64_t chunks = heads * divide_up(s, chunk_of(dims, knobs.at("CHUNK")));
  return {heads * s * (kGateBytes + 4), 4 * chunks * qk * dims.at("DHHV"),
          4 * (chunks * qk + heads), chunks * kStepBytes};
}

}  // namespace

spec::Variant forward_on_cuda(const std::string& op, const std::string& source) {
  spec::Variant variant;
  variant.name = "chunks";
  variant.language = "cuda";
  variant.source = kernel_source(source);
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cuda_arguments";
  variant.space = chunk_space;
  variant.stages = [name = variant.func_name](const Dims& dims, const Setting& knobs) {
    return stages_of_forward(name, dims, knobs);
  };
  variant.scratch = scratch_of_forward;
  return variant;
}

}  // namespace mlx_kd::kernels::mlstm
