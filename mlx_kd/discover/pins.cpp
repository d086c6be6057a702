#include "mlx_kd/discover/pins.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {

packs::Entry pin_of(const Measuring& where, const spec::Candidate& candidate,
                    const evaluate::Claim& claim) {
  packs::Measured measured{claim.dims, claim.metrics, where.evaluator->protocol_hash(),
                           base::Json::object(),
                           where.evaluator->protocol().value("proof", base::Json::object())};
  for (const auto& input : where.op->runtime_inputs)
    measured.runtime_inputs[input.name] = input.proved;
  measured.proof["bit_exact"] = claim.metrics.bit_exact;
  return packs::make_entry(candidate, measured, where.device->id(),
                           where.evaluator->runtime().at("mlx_version").get<std::string>());
}

spec::Candidate candidate_of(const packs::Entry& entry, const spec::Op& op) {
  const base::Json kind = entry.launch_params.value("launch_kind", base::Json());
  const auto variant = std::find_if(op.variants.begin(), op.variants.end(), [&](const auto& v) {
    return v.language == entry.language && v.func_name == entry.func_name && kind == v.launch_kind;
  });
  if (variant == op.variants.end())
    base::misuse("discover", "this program has no " + entry.language.substr(0, 20) +
                                 " kernel of '" + op.name + "' that is called " +
                                 entry.func_name.substr(0, 80) + ": find a new one with kd run");
  spec::Candidate result;
  result.op_name = op.name;
  result.variant = variant->name;
  result.language = entry.language;
  result.dtype = spec::parse_dtype(entry.key.dtype);
  result.knobs = spec::Setting::from_json(entry.knobs);
  result.source = entry.source;
  result.func_name = entry.func_name;
  result.inputs_spec = entry.inputs_spec;
  result.outputs_spec = entry.outputs_spec;
  result.template_params = entry.knobs;
  result.launch_params = entry.launch_params;
  return result;
}

}  // namespace mlx_kd::discover
