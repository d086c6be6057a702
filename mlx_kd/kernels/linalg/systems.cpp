#include "mlx_kd/kernels/linalg/systems.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::linalg {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;

// A block on the diagonal is solved in registers.
const std::vector<int64_t> kPanels = {16, 8};

int64_t rows_of(const Dims& dims) {
  return dims.has("m") ? dims.at("m") : dims.at("n");
}

int64_t line_of(int64_t columns, const Setting& knobs) {
  const int64_t floats = knobs.at("VEC") / 4;
  return divide_up(columns, floats) * floats;
}

int64_t least_side(const Dims& dims) {
  return std::min(rows_of(dims), dims.at("n"));
}

// How many matrices are in work at once.
int64_t slots_of(const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch");
  return is_shared(batch, least_side(dims), knobs) ? batch : tasks_of(batch, knobs);
}

spec::Stage finish_stage(const Made& made, const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch");
  int64_t units = batch;
  if (made.by_rows) units = batch * padded(rows_of(dims), knobs) / knobs.at("PANEL");
  if (made.sides) units = batch * divide_up(line_of(made.sides(dims), knobs), tile_columns(knobs));
  return stage_of(made.finish, units, knobs);
}

std::vector<spec::Stage> lu_stages(const Made& made, const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch"), block = knobs.at("BLOCK");
  if (!is_shared(batch, least_side(dims), knobs))
    return {whole_stage("mlx_kd_" + made.op, batch, knobs)};
  const int64_t columns = padded(dims.at("n"), knobs), steps = padded(least_side(dims), knobs);
  std::vector<spec::Stage> stages = {
      stage_of("mlx_kd_lu_load", batch * padded(rows_of(dims), knobs) / knobs.at("PANEL"), knobs)};
  for (int64_t from = 0; from < steps; from += block) {
    stages.push_back(stage_of("mlx_kd_lu_panel", batch, knobs, from));
    if (const int64_t right = columns - std::min(from + block, steps); right > 0)
      stages.push_back(stage_of("mlx_kd_lu_columns", batch * divide_up(right, tile_columns(knobs)),
                                knobs, from));
  }
  stages.push_back(finish_stage(made, dims, knobs));
  return stages;
}

std::vector<spec::Stage> triangle_stages(const Made& made, const Dims& dims, const Setting& knobs) {
  const int64_t batch = dims.at("batch");
  if (!is_shared(batch, dims.at("n"), knobs))
    return {whole_stage("mlx_kd_" + made.op, batch, knobs)};
  return {stage_of("mlx_kd_triangle_examine", batch, knobs),
          stage_of("mlx_kd_triangle_load", batch * padded(dims.at("n"), knobs) / knobs.at("PANEL"),
                   knobs),
          finish_stage(made, dims, knobs)};
}

// Right sides in work.
int64_t side_bytes(const Made& made, Dtype t, const Dims& dims, const Setting& knobs) {
  if (!made.sides) return 0;
  return word_of(t) * slots_of(dims, knobs) * padded(rows_of(dims), knobs) *
         line_of(made.sides(dims), knobs);
}

std::vector<int64_t> lu_scratch(const Made& made, Dtype t, const Dims& dims, const Setting& knobs) {
  const int64_t rows = padded(rows_of(dims), knobs);
  const int64_t floats = rows * stride_of(padded(dims.at("n"), knobs)) + 3 * rows;
  return {word_of(t) * slots_of(dims, knobs) * floats, side_bytes(made, t, dims, knobs)};
}

std::vector<int64_t> triangle_scratch(const Made& made, Dtype t, const Dims& dims,
                                      const Setting& knobs) {
  const int64_t rows = padded(dims.at("n"), knobs);
  return {word_of(t) * slots_of(dims, knobs) * made.triangles * rows * (stride_of(rows) + 1),
          side_bytes(made, t, dims, knobs)};
}

// BLOCK has no effect.
spec::Space triangle_space(Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space = block_space(t, traits, kPanels);
  std::erase_if(space.knobs, [](const spec::Knob& knob) { return knob.name == "BLOCK"; });
  return space;
}

spec::Variant cpu_variant(const std::string& name, const std::string& op) {
  spec::Variant variant;
  variant.name = name;
  variant.language = "cpp";
  variant.source = kernel_source("linalg/" + op + "/" + op + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cpp_arguments";
  return variant;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {metal_threads(),
                 {"HELD",
                  {4096, 1024, 6144},
                  linear,
                  source,
                  "floats of a matrix in threadgroup memory at most"}};
  return space;
}

}  // namespace

spec::Variant lu_variant(const Made& made) {
  spec::Variant variant = cpu_variant("panels", made.op);
  variant.space = [](Dtype t, const spec::DeviceTraits& traits) {
    return block_space(t, traits, kPanels);
  };
  variant.stages = [made](const Dims& dims, const Setting& knobs) {
    return lu_stages(made, dims, knobs);
  };
  variant.scratch = [made](Dtype t, const Dims& dims, const Setting& knobs) {
    return lu_scratch(made, t, dims, knobs);
  };
  return variant;
}

spec::Variant triangle_variant(const Made& made) {
  spec::Variant variant = cpu_variant("blocks", made.op);
  variant.space = triangle_space;
  variant.stages = [made](const Dims& dims, const Setting& knobs) {
    return triangle_stages(made, dims, knobs);
  };
  variant.scratch = [made](Dtype t, const Dims& dims, const Setting& knobs) {
    return triangle_scratch(made, t, dims, knobs);
  };
  return variant;
}

spec::Variant metal_variant(const std::string& op,
                            const std::function<int64_t(const Dims&)>& scratch) {
  spec::Variant variant;
  variant.name = "groups";
  variant.language = "metal";
  variant.source = kernel_source("linalg/" + op + "/" + op + ".metal");
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "metal_groups";
  variant.space = metal_space;
  variant.launch = [](const Dims& dims, const Setting& knobs) {
    return launch_groups(dims.at("batch"), knobs);
  };
  variant.scratch = [scratch](Dtype, const Dims& dims, const Setting&) {
    return std::vector<int64_t>{4 * dims.at("batch") * scratch(dims)};
  };
  return variant;
}

}  // namespace mlx_kd::kernels::linalg
