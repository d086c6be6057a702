// What the first version does with a pack, written again from the rules of its format:
// docs/formats.md. It knows no entry but those with a metal_source, and runs such a source by
// metal_kernel.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "mlx/ops.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/metal_text/metal_kernel.h"

namespace mlx_kd::tests::first_version {

namespace mx = mlx::core;

// What it calls before a body.
inline constexpr const char* kHeader = R"(#include <metal_stdlib>
using namespace metal;
#include <kk_utils>
)";

struct Pin {
  std::string op_name, dtype, func_name, metal_source;
  base::Json shape, launch;  // shape_signature, launch_params
};

inline std::vector<Pin> load(const base::Json& pack) {
  std::vector<Pin> pins;
  for (const base::Json& entry : pack.at("entries")) {
    if (!entry.contains("metal_source")) continue;
    const base::Json& key = entry.at("key");
    for (const char* field : {"mlx_version", "device_arch", "device_name"})
      (void)key.at(field).get<std::string>();
    for (const char* field : {"candidate_id", "source_hash"})
      (void)entry.at(field).get<std::string>();
    for (const char* field :
         {"latency_us", "speedup_vs_ref", "correctness_max_abs_err", "correctness_max_rel_err"})
      (void)entry.at("metrics").at(field).get<double>();
    for (const char* field : {"inputs_spec", "outputs_spec"})
      for (const base::Json& port : entry.at(field))
        if (port.at("strides") != "contiguous") throw std::runtime_error("strides");
    (void)entry.at("template_params").items();
    pins.push_back({key.at("op_name"), key.at("dtype"), entry.at("func_name"),
                    entry.at("metal_source"), key.at("shape_signature"),
                    entry.at("launch_params")});
  }
  return pins;
}

// Exact fields only; an empty shape_signature matches any.
inline std::optional<Pin> find(const std::vector<Pin>& pins, const std::string& op_name,
                               const std::string& dtype, const base::Json& shape) {
  for (const Pin& pin : pins)
    if (pin.op_name == op_name && pin.dtype == dtype && (pin.shape.empty() || pin.shape == shape))
      return pin;
  return std::nullopt;
}

inline int64_t number(const base::Json& from, const char* name, int64_t otherwise) {
  return from.contains(name) ? from.at(name).get<int64_t>() : otherwise;
}

inline int64_t grid_of(const Pin& pin, int64_t group, int64_t elements) {
  const auto kind = pin.launch.value("launch_kind", std::string());
  const auto dim = [&](const char* name) { return pin.shape.at(name).get<int64_t>(); };
  if (kind == "rmsnorm_rows_tg" || kind == "rmsnorm_residual_rows_tg") return dim("rows") * group;
  if (kind == "rope_decode_pos") return dim("B") * (dim("H_Q") + 1) * dim("D_OUT");
  if (kind == "swiglu_flat") {
    const int64_t each = number(pin.launch, "vec_width", 1) * number(pin.launch, "unroll", 1);
    return (dim("N") + each - 1) / each;
  }
  return number(pin.launch, "grid_x", elements);
}

struct Names {
  std::vector<std::string> inputs, outputs;
};
inline Names names_of(const std::string& op_name) {
  if (op_name == "rmsnorm") return {{"inp", "weight"}, {"out"}};
  if (op_name == "rmsnorm_residual") return {{"inp", "residual", "weight"}, {"out", "updated_res"}};
  if (op_name == "swiglu") return {{"gate", "up"}, {"out"}};
  return {{"q_nope", "q_rope", "kv_nope", "k_rope", "cos", "sin"}, {"q_out", "k_out"}};
}

inline std::vector<mx::array> run(const Pin& pin, std::vector<mx::array> inputs,
                                  const std::vector<mx::Shape>& output_shapes,
                                  mx::Device device = mx::Device::cpu) {
  const Names names = names_of(pin.op_name);
  const devices::MetalKernel kernel(
      {pin.func_name, names.inputs, names.outputs, pin.metal_source, kHeader});
  const mx::Dtype dtype = inputs[0].dtype();
  if (pin.op_name == "swiglu")
    for (mx::array& one : inputs) one = mx::flatten(one, device);
  const int64_t asked = number(pin.launch, "threadgroup_x", 256);
  const int64_t grid = grid_of(pin, asked, static_cast<int64_t>(inputs[0].size()));
  const int64_t group = std::min(asked, grid);
  return kernel({inputs,
                 output_shapes,
                 std::vector<mx::Dtype>(output_shapes.size(), dtype),
                 {static_cast<int>(grid), 1, 1},
                 {static_cast<int>(group), 1, 1},
                 {{"T", dtype}},
                 std::nullopt,
                 false,
                 device});
}

}  // namespace mlx_kd::tests::first_version
