#include "mlx_kd/spec/op/candidate.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"

namespace mlx_kd::spec {
namespace {

void put_source(base::Json& object, const Candidate& candidate) {
  if (candidate.language == "metal") {
    object["metal_source"] = candidate.source;
  } else {
    object["source"] = candidate.source;
    object["language"] = candidate.language;
  }
}

std::string kind_in(const base::Json& launch_params) {
  const auto found = launch_params.find("launch_kind");
  return found != launch_params.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string Candidate::id() const {
  base::Json hashed = {{"op_name", op_name},
                       {"func_name", func_name},
                       {"inputs_spec", inputs_spec},
                       {"outputs_spec", outputs_spec},
                       {"template_params", template_params},
                       {"launch_params", launch_params}};
  put_source(hashed, *this);
  return op_name + "_" + base::sha256_hex(base::canonical_json(hashed)).substr(0, 16);
}

std::string Candidate::source_hash() const {
  base::Json hashed = base::Json::object();
  put_source(hashed, *this);
  return base::sha256_hex(base::canonical_json(hashed));
}

bool is_metal_body(const std::string& language, const base::Json& launch_params) {
  return language == "metal" && !kind_in(launch_params).starts_with("metal_");
}

std::string launch_kind_of(const Candidate& candidate) {
  return kind_in(candidate.launch_params);
}

void name_numbers(Candidate& candidate, const Op& op) {
  candidate.dim_names.clear(), candidate.scalar_names.clear();
  const Dims complete = spec::complete(op, op.suites.front().sizes.front());
  for (const auto& [name, value] : complete.items()) candidate.dim_names.push_back(name);
  for (const Scalar& scalar : op.scalars) candidate.scalar_names.push_back(scalar.name);
  candidate.updates.clear();
  for (size_t i = 0; i < op.outputs.size(); ++i) candidate.updates.push_back(updated_input(op, i));
}

base::Json ports_spec(const std::vector<Port>& ports, Dtype dtype, const Dims& dims) {
  base::Json result = base::Json::array();
  for (const Port& port : ports)
    result.push_back({{"name", port.name},
                      {"dtype", name_of(port.type.at(dtype, dims))},
                      {"shape", port.shape(dims)},
                      {"strides", "contiguous"}});
  return result;
}

Candidate make_candidate(const Op& op, const Variant& variant, Dtype dtype, const Setting& knobs,
                         const Space& space, const Dims& first_size) {
  Candidate result;
  result.op_name = op.name;
  result.variant = variant.name;
  result.language = variant.language;
  result.dtype = dtype;
  result.knobs = knobs;
  result.source = variant.source;
  result.func_name = variant.func_name;
  result.inputs_spec = ports_spec(op.inputs, dtype, first_size);
  result.outputs_spec = ports_spec(op.outputs, dtype, first_size);
  name_numbers(result, op);
  result.template_params = knobs.json();
  result.launch_params = {{"launch_kind", variant.launch_kind}};
  for (const Knob& knob : space.knobs)
    if (knob.role == KnobRole::launch) result.launch_params[knob.name] = knobs.at(knob.name);
  return result;
}

const Variant& variant_of(const Op& op, const Candidate& candidate) {
  for (const Variant& variant : op.variants)
    if (variant.name == candidate.variant && variant.language == candidate.language) return variant;
  base::fail("spec", "op '" + op.name + "' has no " + candidate.language + " variant '" +
                         candidate.variant +
                         "': the candidate comes from another version of mlx-kd");
}

}  // namespace mlx_kd::spec
