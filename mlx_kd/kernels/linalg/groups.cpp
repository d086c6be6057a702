#include "mlx_kd/kernels/linalg/groups.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::groups {
namespace {

constexpr int64_t kLine = 16;  // floats of a cache line

// Matrices of a task: an equal part of the batch each, of whole groups where it has many.
int64_t grain_of(const spec::Dims& dims, const spec::Setting& knobs) {
  const int64_t batch = dims.at("batch"), lanes = knobs.at("VEC") / 8;
  const int64_t threads = knobs.at("THREADS");
  const int64_t share = divide_up(batch, threads);
  if (share <= lanes) return share;
  return std::max(divide_up(divide_up(batch, 4 * threads), lanes), knobs.at("GRAIN")) * lanes;
}

// One stage, whose index is the number of matrices of a task.
std::vector<spec::Stage> cpu_stages(const std::string& function, const spec::Dims& dims,
                                    const spec::Setting& knobs) {
  const int64_t grain = grain_of(dims, knobs);
  spec::Stage stage{function, {}, grain};
  stage.launch.grid[0] = dims.at("batch");
  stage.launch.group[0] = grain;
  stage.launch.threads =
      static_cast<int>(std::clamp<int64_t>(tasks(dims, knobs), 1, knobs.at("THREADS")));
  return {stage};
}

spec::Space metal_space(spec::Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"THREADS", {128, 32, 64, 256, 512}, log2, source, "threads of a matrix"},
                 {"PARTS", {8, 4, 16, 32}, log2, source, "threads of a pair of columns"}};
  return space;
}

spec::Space cuda_space(spec::Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"THREADS", {1024, 256, 512}, log2, launch, "threads of a matrix at most"},
                 {"QUADS", {2, 1, 4}, log2, launch, "times four floats of a column in a thread"},
                 linalg::shared_memory()};
  return space;
}

// Threads of a pair by pairs; the name says how much of a column each has; without a number: any
// length.
spec::Stage cuda_stage(const std::string& function, const spec::Dims& dims,
                       const spec::Setting& knobs, const Turned& turned) {
  constexpr int64_t kWarp = 32;
  const int64_t quads = divide_up(turned.length, 4), pairs = divide_up(turned.count, 2);
  const auto wanted = static_cast<uint64_t>(divide_up(quads, knobs.at("QUADS")));
  const int64_t parts = std::min(static_cast<int64_t>(std::bit_ceil(wanted)), kWarp);
  const int64_t in_warp = kWarp / parts;
  const auto each = std::bit_ceil(static_cast<uint64_t>(divide_up(quads, parts)));
  spec::Stage stage{each > 4 ? function : function + "_" + std::to_string(each), {}, 0};
  stage.launch.group = {
      parts, std::min(divide_up(pairs, in_warp) * in_warp, knobs.at("THREADS") / parts), 1};
  stage.launch.grid = {dims.at("batch") * parts, stage.launch.group[1], 1};
  stage.launch.shared_bytes = linalg::shared_bytes(turned.floats, knobs);
  return stage;
}

}  // namespace

int64_t padded(int64_t n) {
  return divide_up(n, kLine) * kLine;
}

int64_t stride_of(int64_t n) {
  const int64_t columns = padded(n);
  return columns <= 2 * kLine || columns / kLine % 2 ? columns : columns + kLine;
}

int64_t eigen_floats(int64_t n, const spec::Setting& knobs) {
  const int64_t lanes = knobs.at("VEC") / 8, stride = stride_of(n);
  return (1 + lanes) * n * stride + 2 * stride + 4 * lanes * (n + 1) +
         knobs.at("SWEEPS") * 2 * lanes * n;
}

spec::Space cpu_space(spec::Dtype t, const spec::DeviceTraits& device) {
  const spec::DeviceTraits traits = linalg::traits_for(t, device);
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"SWEEPS",
                  {8, 4, 16},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "sweeps of the QL method whose rotations are applied together"},
                 {"WIDE",
                  {4, 2, 8},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "vectors of columns that are worked on together"}};
  add_thread_knobs(space, traits, {1, 2, 4}, "groups at least");
  return space;
}

int64_t tasks(const spec::Dims& dims, const spec::Setting& knobs) {
  return divide_up(dims.at("batch"), grain_of(dims, knobs));
}

std::vector<spec::Variant> variants(const std::string& op, decltype(spec::Variant::space) cpu_space,
                                    decltype(spec::Variant::scratch) cpu_scratch,
                                    decltype(spec::Variant::scratch) metal_scratch,
                                    Turned (*turned)(const spec::Dims&)) {
  const std::string source = "linalg/" + op + "/" + op, function = "mlx_kd_" + op;
  return {{.name = "lanes",
           .language = "cpp",
           .source = kernel_source(source + ".cpu.cpp"),
           .func_name = function,
           .launch_kind = "cpp_arguments",
           .space = std::move(cpu_space),
           .stages = [function](
                         const spec::Dims& dims,
                         const spec::Setting& knobs) { return cpu_stages(function, dims, knobs); },
           .scratch = std::move(cpu_scratch)},
          {.name = "jacobi",
           .language = "metal",
           .source = kernel_source(source + ".metal"),
           .func_name = function,
           .launch_kind = "metal_groups",
           .space = metal_space,
           .launch =
               [](const spec::Dims& dims, const spec::Setting& knobs) {
                 return linalg::launch_groups(dims.at("batch"), knobs);
               },
           .scratch = std::move(metal_scratch)},
          {.name = "jacobi",
           .language = "cuda",
           .source = kernel_source(source + ".cu"),
           .func_name = function,
           .launch_kind = "cuda_arguments",
           .space = cuda_space,
           .stages = [function, turned](const spec::Dims& dims,
                                        const spec::Setting& knobs) -> std::vector<spec::Stage> {
             return {cuda_stage(function, dims, knobs, turned(dims))};
           },
           .scratch =
               [turned](spec::Dtype, const spec::Dims& dims, const spec::Setting& knobs) {
                 return linalg::scratch_unless_shared(dims, knobs, turned(dims).floats);
               }}};
}

}  // namespace mlx_kd::kernels::groups
