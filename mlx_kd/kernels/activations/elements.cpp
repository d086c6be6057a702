#include "mlx_kd/kernels/activations/elements.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kElementUnit = 1024;  // as in the sources

spec::Space elements_on_cpu(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the loop"},
                 {"PREFETCH", {0, 512, 2048}, linear, source, "bytes ahead of the loop"}};
  add_rounding_knob(space, dtype, traits);
  add_stream_knob(space, traits, {0, 1}, {"none", "the output"});
  add_thread_knobs(space, traits, {32, 4, 8, 16, 64, 128}, "blocks of 1024 elements");
  return space;
}

spec::Space gates_on_cpu(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space = elements_on_cpu(dtype, traits);
  space.knobs.push_back({"DEGREE", {5, 4}, linear, source, "degree of the polynomial for 2^f"});
  if (is_x86(traits))
    space.knobs.push_back(
        {"DIVIDE", {0, 1}, choice, source, "how the quotient is found", {"divide", "newton"}});
  return space;
}

spec::Space elements_in_metal(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {pack_knob(),
                 {"UNROLL", {1, 2, 4, 8}, log2, source, "packs of a thread, a grid apart"},
                 group_knob()};
  return space;
}

spec::Space gates_in_metal(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space = elements_in_metal(dtype, traits);
  space.knobs.push_back(fast_knob("exponential and quotient"));
  return space;
}

spec::Launch launch_elements_on_cpu(const Dims& dims, const spec::Setting& knobs) {
  return share_units(divide_up(dims.at("N"), kElementUnit), knobs);
}

spec::Launch launch_elements_in_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t each = knobs.at("VEC") * knobs.at("UNROLL");
  return launch_flat(divide_up(dims.at("N"), each), knobs);
}

// Over the first elements: infinities, NaN, zeros and subnormals.
void add_special_pairs(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const double tiny = spec::smallest_subnormal(dtype);
  const double pairs[][2] = {{kInfinity, 1}, {kNan, 1},        {1, kNan},         {1, kInfinity},
                             {-0.0, -1},     {0, -1},          {tiny, 1},         {-5 * tiny, 2},
                             {1, -tiny},     {-1, -kInfinity}, {kNan, kInfinity}, {300, 1},
                             {-300, 1}};
  int64_t at = 0;
  for (const auto& pair : pairs) {
    if (at >= dims.at("N")) return;
    for (size_t i = 0; i < inputs.size(); ++i)
      spec::store_element(inputs[i], at, dtype, static_cast<float>(pair[i]));
    ++at;
  }
}

}  // namespace

void make_elementwise(spec::Op& op, const std::string& name, const std::vector<std::string>& inputs,
                      int64_t width) {
  op.name = name;
  for (const std::string& input : inputs) op.inputs.push_back({input, rows_by_d});
  op.outputs = {{"out", rows_by_d}};
  op.dims = {rows_dim(), {"D"}};
  op.batch_dim = "rows";
  op.suites = {rows_suite("decode", kDecodeRows, width), rows_suite("prefill", {128}, width)};
  op.edge_sizes = rows_edges();
  op.complete = [](const Dims& dims) {
    const int64_t rows = dims.at("rows"), d = dims.at("D");
    return Dims{{"rows", rows}, {"D", d}, {"N", rows * d}};
  };
  op.cost = [arrays = inputs.size() + 1](const Dims& dims, Dtype dtype) {
    const auto n = static_cast<double>(dims.at("N"));
    return spec::Cost{static_cast<double>(arrays) * n * static_cast<double>(spec::size_of(dtype)),
                      20 * n};
  };
  op.add_special_values = add_special_pairs;
  const std::string path = "activations/" + name + "/" + name, function = "mlx_kd_" + name;
  const bool gate = inputs.size() > 1;
  op.variants = {{"elements", "cpp", kernel_source(path + ".cpu.cpp"), function, "cpu_elements",
                  gate ? gates_on_cpu : elements_on_cpu, launch_elements_on_cpu},
                 {"elements", "metal", kernel_source(path + ".metal"), function, "metal_flat",
                  gate ? gates_in_metal : elements_in_metal, launch_elements_in_metal}};
}

Charged charged_gate(const GatedValue& value, Dtype dtype) {
  const double sigmoid = 1 / (1 + std::exp(-value.z)), other = 1 / (1 + std::exp(value.z));
  const double y = value.number * sigmoid * value.factor;
  const double sway = std::isinf(value.z) ? 0 : std::fabs(value.z) * other * value.magnified;
  // float32 has no sigmoid below 2^-126, and devices may flush it and its product with the number.
  const double lost =
      (std::fabs(value.number * value.factor) + std::fabs(value.factor) + 1) * 0x1p-124;
  return {y, std::fabs(y), std::fabs(y) * (1 + sway / kGateRoundings), lost + underflow(dtype)};
}

spec::Reference64 each_element(const std::vector<const void*>& inputs, size_t count, Dtype dtype,
                               const Dims& dims, double accumulated,
                               const std::function<Charged(const double*)>& made) {
  spec::Reference64 result;
  for (int64_t i = 0; i < dims.at("N"); ++i) {
    double values[2] = {};
    for (size_t port = 0; port < count; ++port)
      values[port] = spec::load_element(inputs[port], i, dtype);
    append(result, made(values));
  }
  saturate(result, dtype, accumulated);
  return result;
}

std::vector<spec::ModelSizes> mlp_sizes(const spec::ModelConfig& config, const std::string& op,
                                        const std::vector<std::string>& gates) {
  const std::string gate = gate_activation(config);
  if (std::find(gates.begin(), gates.end(), gate) == gates.end())
    base::misuse("kernels", "the config of " + config.origin() + " names the activation '" + gate +
                                "', and " + op + " is " + base::list_of(gates) + ": give --shapes");
  return {{"model",
           "intermediate_size: the MLP",
           {{"D", config.first_of({"intermediate_size", "ffn_hidden_size", "n_inner"},
                                  "the width of the MLP")}}}};
}

}  // namespace mlx_kd::kernels
