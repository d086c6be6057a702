#include "mlx_kd/discover/make_entry.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::discover {
namespace {

// Knobs become macros of the source.
bool is_macro(const std::string& name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name.front())) &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_'; });
}

spec::Setting knobs_of(const packs::Entry& entry) {
  const spec::Setting knobs = spec::Setting::from_json(entry.knobs);
  for (const auto& [name, value] : knobs.items())
    if (!is_macro(name))
      base::misuse("discover", "its knob '" + name.substr(0, 40) +
                                   "' has a name that no knob has: the entry is damaged");
  return knobs;
}

// The model's numbers that a body holds.
std::vector<double> numbers_of(const packs::Entry& entry, const spec::Op& op) {
  std::vector<double> result = spec::default_scalars(op);
  for (size_t i = 0; i < result.size(); ++i) {
    const auto given = entry.runtime_inputs.find(op.scalars[i].name);
    if (given != entry.runtime_inputs.end() && given->is_number()) result[i] = *given;
  }
  return result;
}

// A body does not name its kernel: it is the one that this program makes the same body of.
spec::Candidate metal_candidate_of(const packs::Entry& entry, const spec::Op& op) {
  const spec::Setting knobs = knobs_of(entry);
  const spec::Dims& dims = entry.key.shape_signature;
  const spec::Dtype dtype = spec::parse_float_dtype(entry.key.dtype);
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != "metal") continue;
    const spec::Space space = variant.space(dtype, {});
    if (!spec::is_valid(space, knobs)) continue;
    const auto candidate = spec::make_candidate(op, variant, dtype, knobs, space, dims);
    const auto body = kernels::body_form(op, candidate, dims, numbers_of(entry, op));
    if (body && body->source == entry.source) return candidate;
  }
  base::misuse("discover", "its text is none that this program makes of its Metal kernels of '" +
                               op.name + "': find a new one with kd run");
}

// What is proved and timed again is that an exact kernel of this contract is faster than MLX, over
// a range of the batch dim at most.
void check_claims(const packs::Entry& entry, const spec::Op& op) {
  if (entry.contract != op.contract)
    base::misuse("discover", "it is for contract " + std::to_string(entry.contract) + " of '" +
                                 op.name + "', which has contract " + std::to_string(op.contract) +
                                 " in this build: find a new kernel with kd run");
  if (!entry.ranges.empty() || entry.approximate ||
      entry.claim_kind != packs::ClaimKind::faster_than_mlx)
    base::misuse("discover",
                 "it states ranges by name, is approximate or claims what MLX cannot do, which is "
                 "not measured again: find a new kernel with kd run");
}

}  // namespace

packs::Entry pin_of(const Measuring& where, const spec::Candidate& candidate,
                    const evaluate::Claim& claim) {
  const spec::Variant& variant = spec::variant_of(*where.op, candidate);
  std::optional<spec::Candidate> body;
  if (!variant.body.kind.empty())
    body = kernels::body_form(*where.op, candidate, claim.dims, spec::default_scalars(*where.op));
  packs::Measured measured{claim.dims, claim.metrics, where.evaluator->protocol_name(),
                           base::Json::object(),
                           where.evaluator->protocol().value("proof", base::Json::object())};
  for (const auto& input : where.op->scalars)
    measured.runtime_inputs[input.name] =
        body ? base::Json(input.default_value) : base::Json(input.proved);
  measured.proof["bit_exact"] = claim.metrics.bit_exact;
  if (where.device->checks()) measured.proof["races"] = "checked";
  auto entry = packs::make_entry(body.value_or(candidate), measured, where.device->id(),
                                 where.evaluator->runtime().at("mlx_version").get<std::string>());
  entry.contract = where.op->contract;
  entry.claim_kind = claim.kind;
  entry.approximate = !variant.approximate.empty();
  if (body) entry.other["found_as"] = candidate.id();  // in the records of the run
  return entry;
}

spec::Dims size_of(const packs::Entry& entry, const spec::Op& op) {
  const spec::Dims& signature = entry.key.shape_signature;
  spec::Dims own;
  for (const std::string& name : op.dim_names()) {
    if (!signature.has(name)) base::misuse("discover", "its shape_signature has no '" + name + "'");
    own.set(name, signature.at(name));
  }
  const spec::Dims complete = shapes::checked_size(op, own);
  if (!(complete == signature))
    base::misuse("discover", "its shape_signature is not one of '" + op.name + "'");
  return complete;
}

spec::Candidate candidate_of(const packs::Entry& entry, const spec::Op& op) {
  check_claims(entry, op);
  if (spec::is_metal_body(entry.language, entry.launch_params))
    return metal_candidate_of(entry, op);
  const base::Json kind = entry.launch_params.value("launch_kind", base::Json());
  const auto variant = std::find_if(op.variants.begin(), op.variants.end(), [&](const auto& v) {
    return v.language == entry.language && v.func_name == entry.func_name && kind == v.launch_kind;
  });
  if (variant == op.variants.end())
    base::misuse("discover", "this program has no " + entry.language.substr(0, 20) +
                                 " kernel of '" + op.name + "' that is called " +
                                 entry.func_name.substr(0, 80) + ": find a new one with kd run");
  spec::Candidate result = packs::candidate_as_stored(entry);
  result.op_name = op.name;
  result.variant = variant->name;
  result.dtype = spec::parse_float_dtype(entry.key.dtype);
  result.knobs = knobs_of(entry);
  spec::name_numbers(result, op);
  return result;
}

}  // namespace mlx_kd::discover
