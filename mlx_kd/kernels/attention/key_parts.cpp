#include "mlx_kd/kernels/attention/key_parts.h"

#include <algorithm>
#include <utility>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::attention {

using spec::Dims;

int64_t blocks_of(const Dims& dims, int64_t rows) {
  const int64_t group = dims.at("Hq") / dims.at("Hk");
  return dims.at("B") * dims.at("Hk") * divide_up(group * dims.at("M"), rows);
}

int64_t shares_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t heads = dims.at("Hk");
  return blocks_of(dims, knobs.at("ROWS")) / std::max<int64_t>(1, heads) *
         divide_up(heads, knobs.value_or("HEADS", 1));
}

int64_t parts_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t units = 4 * knobs.at("THREADS"),
                shares = std::max<int64_t>(1, shares_of(dims, knobs));
  return std::max<int64_t>(1, std::min(dims.at("S") / knobs.at("KEYS"), units / shares));
}

spec::Knob keys_knob(std::vector<int64_t> values) {
  return {"KEYS", std::move(values), spec::KnobScale::log2, spec::KnobRole::launch,
          "keys of a part at least, where a block's keys are shared"};
}

std::vector<spec::Stage> stages_over_keys(const std::string& function, const Dims& dims,
                                          const spec::Setting& knobs) {
  const int64_t parts = parts_of(dims, knobs);
  std::vector<spec::Stage> stages = {
      {function, share_units(shares_of(dims, knobs) * parts, knobs), parts}};
  if (parts > 1)
    stages.push_back(
        {function + "_merge", share_units(blocks_of(dims, knobs.at("ROWS")), knobs), parts});
  return stages;
}

std::vector<int64_t> scratch_of_parts(const Dims& dims, const spec::Setting& knobs, int64_t width) {
  constexpr int64_t kFloatBytes = 4;
  const int64_t parts = parts_of(dims, knobs), rows = knobs.at("ROWS");
  if (parts == 1) return {};
  const int64_t all_rows = blocks_of(dims, rows) * parts * rows;
  return {all_rows * 2 * kFloatBytes, all_rows * width * kFloatBytes};
}

spec::Space block_space(spec::Dtype dtype, const spec::DeviceTraits& traits,
                        std::vector<int64_t> rows, std::vector<int64_t> keys) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ROWS", std::move(rows), log2, source, "query rows of a block"},
                 {"TILE", {64, 32, 128}, log2, source, "keys at a time"},
                 {"PREFETCH", {1, 0}, choice, source, "keys and values are", {"fetched", "read"}},
                 keys_knob(std::move(keys))};
  const bool dots = dtype == spec::Dtype::bfloat16 && traits.vector_bytes >= 64 &&
                    has_isa(traits, {"avx512bf16", "avx512vl"});
  if (dots)
    space.knobs.push_back(
        {"DOT", {1, 0}, choice, source, "scores by", {"dot instructions", "floats"}});
  add_rounding_knob(space, dtype, traits);
  add_thread_knobs(space, traits, {1, 2, 4}, "blocks");
  if (dots)
    space.constraints.push_back({"dot instructions take the widest vectors",
                                 {"DOT", "VEC"},
                                 [](const int64_t* v) { return v[0] == 0 || v[1] == 64; }});
  return space;
}

std::vector<int64_t> scratch_of_blocks(spec::Dtype dtype, const spec::Dims& dims,
                                       const spec::Setting& knobs) {
  const int64_t step = knobs.at("VEC") / (dtype == spec::Dtype::bfloat16 ? 2 : 4);
  return scratch_of_parts(dims, knobs, divide_up(dims.at("Dv"), step) * step);
}

spec::Space row_space(spec::Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"THREADS", {128, 64, 256}, log2, source, "threads of a threadgroup"},
                 {"BLOCK", {256, 128, 512}, log2, source, "keys at a time"}};
  return space;
}

spec::Launch launch_rows(const spec::Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = dims.at("B") * dims.at("Hq") * dims.at("M"), threads = knobs.at("THREADS");
  spec::Launch launch;
  launch.grid[0] = rows * threads;
  launch.group[0] = threads;
  return launch;
}

}  // namespace mlx_kd::kernels::attention
