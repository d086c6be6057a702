#include "mlx_kd/kernels/metal_form.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/msl/bodies/kernel_body.h"
#include "mlx_kd/msl/parse/parser.h"

namespace mlx_kd::kernels {
namespace {

constexpr int64_t kLeastDeviceElements = 8;
constexpr int64_t kThreads = 256;  // where launch_params name none

std::map<std::string, std::string> numbers_of(const spec::Op& op, const spec::Dims& dims,
                                              const std::vector<double>& params) {
  std::map<std::string, std::string> result;
  for (const auto& [name, value] : dims.items()) result[name] = std::to_string(value);
  for (size_t i = 0; i < op.scalars.size(); ++i)
    result[op.scalars[i].name] = msl::float_text(params.at(i));
  return result;
}

msl::PreprocessOptions macros_of(const spec::Candidate& candidate) {
  msl::PreprocessOptions options;
  options.defines["KD_DTYPE"] = std::to_string(static_cast<int>(candidate.dtype));
  for (const auto& [name, value] : candidate.knobs.items())
    if (!candidate.launch_params.contains(name)) options.defines[name] = std::to_string(value);
  return options;
}

int64_t positive(const base::Json& params, const char* name, int64_t otherwise) {
  const auto found = params.find(name);
  if (found == params.end()) return otherwise;
  if (!found->is_number_integer() || found->get<int64_t>() < 1)
    base::misuse("kernels", std::string("launch setting '") + name + "' is " + found->dump() +
                                ": it must be a whole number above 0");
  return found->get<int64_t>();
}

std::string kind_of(const base::Json& params) {
  const auto found = params.find("launch_kind");
  return found != params.end() && found->is_string() ? found->get<std::string>() : "";
}

int64_t groups_of(const spec::Launch& launch) {
  return divide_up(launch.grid[0], launch.group[0]);
}

// Launches of zmlx.kd may end in a partial group, which a kernel for whole ones allows.
base::Json launch_params_of(const spec::Candidate& candidate, const spec::BodyLaunch& body,
                            const spec::Launch& launch, const spec::Dims& dims) {
  base::Json params = candidate.launch_params;
  params["threadgroup_x"] = launch.group[0];
  params["launch_kind"] = body.kind;
  if (body.counts_elements) {
    params["vec_width"] = candidate.knobs.at("VEC");
    params["unroll"] = candidate.knobs.at("UNROLL");
  }
  if (!body.kind.empty() && groups_of(body_launch(params, dims, 0)) == groups_of(launch))
    return params;
  params["launch_kind"] = "grid";
  params["grid_x"] = launch.grid[0];
  return params;
}

bool has_small_input(const spec::Op& op, const spec::Dims& dims) {
  return std::any_of(op.inputs.begin(), op.inputs.end(), [&](const spec::Port& port) {
    return spec::element_count(port.shape(dims)) < kLeastDeviceElements;
  });
}

}  // namespace

std::optional<spec::Candidate> body_form(const spec::Op& op, const spec::Candidate& candidate,
                                         const spec::Dims& dims,
                                         const std::vector<double>& params) {
  if (has_small_input(op, dims)) return std::nullopt;
  const msl::Unit unit = msl::parse(op.name + ".metal", candidate.source, macros_of(candidate));
  spec::Candidate result = candidate;
  result.source = msl::body_of(unit, candidate.func_name, numbers_of(op, dims, params));
  result.func_name += "_" + base::sha256_hex(result.source).substr(0, 8);
  const spec::Variant& variant = spec::variant_of(op, candidate);
  const spec::Launch launch = spec::stages_of(variant, dims, candidate.knobs).front().launch;
  result.launch_params = launch_params_of(candidate, variant.body, launch, dims);
  return result;
}

const spec::BodyLaunch* body_launch_of(const std::string& kind) {
  for (const spec::Op& op : all_ops())
    for (const spec::Variant& variant : op.variants)
      if (!variant.body.kind.empty() && variant.body.kind == kind) return &variant.body;
  return nullptr;
}

spec::Launch body_launch(const base::Json& params, const spec::Dims& dims, int64_t elements) {
  const int64_t group = positive(params, "threadgroup_x", kThreads);
  int64_t threads = 0;
  if (const spec::BodyLaunch* known = body_launch_of(kind_of(params))) {
    const int64_t each = known->counts_elements
                             ? positive(params, "vec_width", 1) * positive(params, "unroll", 1)
                             : 1;
    threads = known->threads(dims, group, each);
  } else {
    threads = positive(params, "grid_x", elements);
  }
  spec::Launch launch;
  launch.grid[0] = std::max<int64_t>(1, threads);
  launch.group[0] = std::min(group, launch.grid[0]);
  return launch;
}

}  // namespace mlx_kd::kernels
