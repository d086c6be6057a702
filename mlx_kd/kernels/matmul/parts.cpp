#include "mlx_kd/kernels/matmul/parts.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/mlx_forms.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {

using spec::ArrayView;
using spec::Dtype;

void refuse(const spec::Op& op, size_t port, const ArrayView& array, const std::string& wanted) {
  throw std::invalid_argument("[" + op.name + "] " + op.inputs[port].name + " has shape " +
                              shape_text(array.shape) + ": " + wanted);
}

Format read_format(const spec::Op& op, size_t first, std::span<const ArrayView> in, int64_t k) {
  const auto w = in[first].shape, scales = in[first + 1].shape;
  const char* const rows = w.size() > 2 ? "(E, N, " : "(N, ";
  if (scales.size() != w.size() || !std::equal(w.begin(), w.end() - 1, scales.begin()) ||
      scales.back() < 1 || k % scales.back() != 0)
    refuse(op, first + 1, in[first + 1],
           std::string("it must be ") + rows + "K / group), as w is " + shape_text(w) +
               " and x has " + std::to_string(k) + " columns");
  if (k < 1 || int64_t{w.back()} * 32 % k != 0)
    refuse(op, first, in[first],
           std::string("it must be ") + rows + "K bits / 32) with K = " + std::to_string(k));
  Format format = {int64_t{w.back()} * 32 / k, k / scales.back(), kAffine};
  if (in[first + 1].type == Dtype::uint8)
    format.mode = format.group == 16 ? kNvfp4 : format.bits == 8 ? kMxfp8 : kMxfp4;
  if (!is_format(format, k))
    throw std::invalid_argument("[" + op.name + "] " + op.inputs[first].name + " has " +
                                why_not(format, k));
  const ArrayView& biases = in[first + 2];
  const bool fits = format.mode == kAffine ? std::equal(scales.begin(), scales.end(),
                                                        biases.shape.begin(), biases.shape.end())
                                           : is_left_out(biases);
  if (!fits)
    refuse(op, first + 2, biases,
           format.mode == kAffine ? "it must be " + shape_text(scales) + ", as the scales are"
                                  : mlx_mode(format) + " has no biases: leave it out");
  return format;
}

mlx::core::array activated_in_mlx(const mlx::core::array& g, bool is_gelu,
                                  const mlx::core::Stream& s) {
  return is_gelu ? gelu_in_mlx(g, s) : mlx::core::multiply(g, mlx::core::sigmoid(g, s), s);
}

void fill_values(void* to, int64_t count, const spec::FillRequest& request, base::Random& random) {
  const bool is_half = request.t == Dtype::float16;
  const double lowest = is_half ? -12 : -30, highest = is_half ? 3 : 20;
  const double from = request.seed % 3 == 1 ? highest - 3 : lowest;
  const double until = request.seed % 3 == 2 ? lowest + 3 : highest;
  for (int64_t i = 0; i < count; ++i) {
    double value = random.normal();
    if (request.distribution == spec::Distribution::magnitudes)
      value = std::copysign(std::exp2(from + (until - from) * random.uniform()), value);
    spec::store_element(to, i, request.t, static_cast<float>(value));
  }
}

namespace {

using enum spec::KnobScale;
using enum spec::KnobRole;

// DOT, where the processor has dot products of bfloat16; `matrices`: products of them too.
void add_dot_knob(spec::Space& space, bool matrices) {
  spec::Knob dot = {"DOT",  {1, 0},         choice,
                    source, "products are", {"dot products of bfloat16", "float32"}};
  if (matrices) {
    dot.values.insert(dot.values.begin(), 2);
    dot.labels.insert(dot.labels.begin(), "products of matrices of bfloat16");
    space.constraints.push_back({"products of matrices are not unrolled",
                                 {"DOT", "UNROLL"},
                                 [](const int64_t* v) { return v[0] != 2 || v[1] == 1; }});
  }
  space.knobs.push_back(dot);
  space.constraints.push_back({"dot products have vectors of 64 bytes",
                               {"VEC", "DOT"},
                               [](const int64_t* v) { return v[0] == 64 || v[1] == 0; }});
}

// Columns of a panel, or the distance of what is fetched ahead.
spec::Knob reach_knob(bool many_rows, bool matrices) {
  if (!many_rows)
    return {"PREFETCH",
            {4096, 0, 1024, 2048, 8192},
            linear,
            source,
            "bytes ahead, where x takes more than 8 KB"};
  const std::vector<int64_t> large_first = {2048, 512, 1024}, small_first = {512, 1024, 2048};
  return {"PANEL", matrices ? small_first : large_first, log2, source,
          "columns of W that are decoded at once, at most"};
}

}  // namespace

spec::Space cpu_space(const Kind& kind, Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits)};
  const bool matrices = kind.many_rows && has_matrices(t, traits);
  if (has_dots(traits) && (kind.quantised || t == Dtype::bfloat16)) add_dot_knob(space, matrices);
  space.knobs.push_back({"UNROLL", {1, 2, 4}, log2, source, "steps a turn of the innermost loop"});
  space.knobs.push_back(reach_knob(kind.many_rows, matrices));
  const int64_t cores = std::max(traits.cores, 1);
  std::vector<int64_t> threads = {cores};
  for (int64_t count = 1; count < cores; count *= 2) threads.push_back(count);
  space.knobs.push_back({"THREADS", threads, log2, launch, "threads at most"});
  const std::vector<int64_t> tasks = {1, 2, 4}, more_tasks = {4, 1, 2, 8};
  space.knobs.push_back(
      {"TASKS", kind.many_rows ? more_tasks : tasks, log2, launch, "tasks per thread"});
  const int64_t first = kind.many_rows ? 4 : 1;
  space.constraints.push_back({"TASKS is " + std::to_string(first) + " where THREADS is 1",
                               {"THREADS", "TASKS"},
                               [first](const int64_t* v) { return v[0] > 1 || v[1] == first; }});
  return space;
}

spec::Launch prepare_rows(int64_t rows, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.grid[0] = rows;
  launch.threads = rows < 4 ? 1 : static_cast<int>(std::min(knobs.at("THREADS"), rows));
  launch.group[0] = divide_up(rows, launch.threads);
  return launch;
}

spec::Launch share_rows(int64_t rows, const spec::Setting& knobs) {
  const int64_t threads = knobs.at("THREADS");
  spec::Launch launch;
  launch.grid[0] = rows;
  launch.group[0] =
      std::max<int64_t>(32, divide_up(divide_up(rows, threads * knobs.at("TASKS")), 16) * 16);
  launch.threads =
      static_cast<int>(std::clamp<int64_t>(divide_up(rows, launch.group[0]), 1, threads));
  return launch;
}

int64_t tile_rows(const spec::Setting& knobs) {
  if (knobs.has("DOT") && knobs.at("DOT") == 2) return 32;
  const int64_t vector_bytes = knobs.at("VEC");
  return vector_bytes == 64 ? 12 : vector_bytes == 32 ? 6 : 4;
}

spec::Variant cpu_variant(const Kind& kind, const std::string& name) {
  spec::Variant variant;
  variant.name = name;
  variant.language = "cpp";
  variant.source = kernel_source("matmul/" + kind.name + "/" + kind.name + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + kind.name;
  variant.launch_kind = "cpp_arguments";
  variant.space = [kind](Dtype t, const spec::DeviceTraits& traits) {
    return cpu_space(kind, t, traits);
  };
  return variant;
}

void add_quantised(const std::array<std::string, 3>& names, const std::vector<std::string>& axes,
                   std::vector<spec::Port>& ports) {
  const auto shape = [axes](const spec::Dims& dims, int64_t columns) {
    spec::Shape result;
    for (const std::string& axis : axes) result.push_back(dims.at(axis));
    result.push_back(columns);
    return result;
  };
  const auto groups = [shape](const spec::Dims& dims) {
    return shape(dims, dims.at("K") / dims.at("group"));
  };
  ports.push_back(
      {names[0],
       [shape](const spec::Dims& dims) { return shape(dims, dims.at("K") * dims.at("bits") / 32); },
       Dtype::uint32});
  ports.push_back({names[1], groups, spec::PortType([](Dtype t, const spec::Dims& dims) {
                     return dims.at("mode") == kAffine ? t : Dtype::uint8;
                   })});
  ports.push_back({.name = names[2],
                   .shape =
                       [groups](const spec::Dims& dims) {
                         return dims.at("mode") == kAffine ? groups(dims) : spec::Shape{0};
                       },
                   .optional = true});
}

}  // namespace mlx_kd::kernels::matmul
