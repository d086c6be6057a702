#include "mlx_kd/kernels/linalg/batches.h"

#include <mlx/ops.h>

#include <algorithm>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::linalg {

using spec::Dims;
using enum spec::KnobScale;
using enum spec::KnobRole;

spec::Dim batch_dim() {
  return {"batch", spec::Dim::Kind::dim, true, true};
}

spec::Dim attribute(const std::string& name, int64_t default_value) {
  return {name, spec::Dim::Kind::attribute, false, false, default_value};
}

spec::Port integers(const std::string& name, std::vector<std::string> axes, spec::Dtype type) {
  spec::Port port;
  port.name = name;
  port.shape = [axes = std::move(axes)](const Dims& dims) {
    spec::Shape shape = {dims.at("batch")};
    for (const std::string& axis : axes) shape.push_back(dims.at(axis));
    return shape;
  };
  port.type = type;
  port.judge = spec::Judge::residuals;
  return port;
}

spec::Port floats(const std::string& name, std::vector<std::string> axes) {
  spec::Port port = integers(name, std::move(axes));
  port.type = {};
  return port;
}

std::vector<spec::Suite> square_suites(const std::vector<std::string>& sides, const Dims& extra) {
  const auto size = [&](int64_t batch, int64_t n) {
    Dims dims = {{"batch", batch}};
    for (const std::string& side : sides) dims.set(side, n);
    for (const auto& [name, value] : extra.items()) dims.set(name, value);
    return dims;
  };
  return {{"batches", {size(64, 64), size(1024, 32), size(4096, 16), size(256, 128)}},
          {"small", {size(1024, 4), size(1024, 8), size(256, 16), size(64, 32)}},
          {"single", {size(1, 64), size(1, 128), size(1, 512), size(1, 1024)}}};
}

void check_choice(const std::string& op, const Dims& dims, const std::string& name, int64_t most,
                  const std::string& choices) {
  const int64_t value = dims.at(name);
  if (value > most)
    base::misuse("kernels",
                 op + ": " + name + " is " + std::to_string(value) + ": give " + choices);
}

int64_t word_of(spec::Dtype t) {
  return std::max<int64_t>(4, spec::size_of(t));
}

spec::DeviceTraits traits_for(spec::Dtype t, spec::DeviceTraits traits) {
  if (t == spec::Dtype::float64) traits.vector_bytes /= 2;
  return traits;
}

spec::Space block_space(spec::Dtype t, const spec::DeviceTraits& device,
                        std::vector<int64_t> panels) {
  const spec::DeviceTraits traits = traits_for(t, device);
  const bool wide = traits.vector_bytes >= 64;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"PANEL", std::move(panels), log2, source, "columns of a panel"},
                 {"ROWS", wide ? std::vector<int64_t>{8, 4} : std::vector<int64_t>{4, 8}, log2,
                  source, "rows of a tile of products"},
                 {"TILE", wide ? std::vector<int64_t>{2, 1, 3} : std::vector<int64_t>{2, 1}, log2,
                  source, "vectors of a tile"},
                 {"BLOCK",
                  {64, 32, 128},
                  log2,
                  source,
                  "columns between updates of all that is right of them"}};
  add_thread_knobs(space, traits, {1, 4, 16, 64}, "matrices at least");
  space.knobs.push_back(
      {"SPLIT", {256, 128, 512}, linear, launch, "columns from which threads share one"});
  space.constraints.push_back({"a panel has at least a vector",
                               {"PANEL", "VEC"},
                               [](const int64_t* v) { return v[0] * 4 >= v[1]; }});
  space.constraints.push_back({"SPLIT is 256 where THREADS is 1: it has no effect",
                               {"THREADS", "SPLIT"},
                               [](const int64_t* v) { return v[0] > 1 || v[1] == 256; }});
  return space;
}

int64_t padded(int64_t n, const spec::Setting& knobs) {
  return divide_up(n, knobs.at("PANEL")) * knobs.at("PANEL");
}

int64_t stride_of(int64_t columns) {
  return columns % 32 == 0 ? columns + 16 : columns;
}

int64_t tile_columns(const spec::Setting& knobs) {
  return knobs.at("TILE") * knobs.at("VEC") / 4;
}

bool is_shared(int64_t batch, int64_t n, const spec::Setting& knobs) {
  return batch < knobs.at("THREADS") && n >= knobs.at("SPLIT");
}

int64_t grain_of(int64_t units, const spec::Setting& knobs) {
  const int64_t each = divide_up(units, 4 * knobs.at("THREADS"));
  return std::max<int64_t>({knobs.at("GRAIN"), each, 1});
}

int64_t tasks_of(int64_t units, const spec::Setting& knobs) {
  return divide_up(units, grain_of(units, knobs));
}

spec::Stage stage_of(const std::string& function, int64_t units, const spec::Setting& knobs,
                     int64_t index) {
  spec::Stage result{function, {}, index};
  result.launch.grid[0] = units;
  result.launch.threads = static_cast<int>(std::clamp<int64_t>(units, 1, knobs.at("THREADS")));
  return result;
}

spec::Stage whole_stage(const std::string& function, int64_t units, const spec::Setting& knobs) {
  spec::Stage result = stage_of(function, units, knobs, grain_of(units, knobs));
  result.launch.group[0] = result.index;
  result.launch.threads =
      static_cast<int>(std::clamp<int64_t>(tasks_of(units, knobs), 1, knobs.at("THREADS")));
  return result;
}

spec::Knob metal_threads() {
  return {"THREADS", {128, 32, 64, 256, 512, 1024}, log2, source, "threads of a matrix"};
}

spec::Launch launch_groups(int64_t groups, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.group[0] = knobs.at("THREADS");
  launch.grid[0] = groups * knobs.at("THREADS");
  return launch;
}

spec::Knob shared_memory() {
  return {"SHARED", {225, 110, 72}, linear, source, "KiB of a matrix in shared memory at most"};
}

int64_t shared_bytes(int64_t floats, const spec::Setting& knobs) {
  return 4 * floats <= knobs.at("SHARED") * 1024 ? 4 * floats : 0;
}

std::vector<int64_t> scratch_unless_shared(const Dims& dims, const spec::Setting& knobs,
                                           int64_t floats) {
  return {shared_bytes(floats, knobs) ? 0 : 4 * dims.at("batch") * floats};
}

spec::Op op_on(const OnBatch& batch) {
  spec::Op op;
  op.name = batch.name;
  op.summary = batch.summary;
  op.inputs = batch.inputs;
  op.outputs = batch.outputs;
  op.dims = batch.dims;
  op.dims.insert(op.dims.begin(), batch_dim());
  op.batch_dim = "batch";
  op.types = {spec::Dtype::float32, spec::Dtype::float64};
  op.cost = [batch](const Dims& dims, spec::Dtype t) {
    const int64_t bytes =
        spec::bytes_of(batch.inputs, t, dims) + spec::bytes_of(batch.outputs, t, dims);
    return spec::Cost{static_cast<double>(bytes),
                      static_cast<double>(dims.at("batch")) * batch.flops(dims)};
  };
  op.gradient = {spec::Gradient::By::none};
  return op;
}

mlx::core::array no_info(const mlx::core::array& a, const mlx::core::Stream& s) {
  return mlx::core::zeros({a.shape().begin(), a.shape().end() - 2}, mlx::core::int32, s);
}

spec::DocLine upper_parameter() {
  return {"upper",
          "1: the upper triangle of a is read, 0: the lower one; what is not read may be anything"};
}

}  // namespace mlx_kd::kernels::linalg
