#include "mlx_kd/discover/pins.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/cases.h"
#include "mlx_kd/kernels/metal_form.h"

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

}  // namespace

std::optional<packs::Entry> pin_of(const Measuring& where, const spec::Candidate& candidate,
                                   const evaluate::Claim& claim) {
  const bool is_metal = candidate.language == "metal";
  const auto pinned = is_metal ? kernels::body_form(*where.op, candidate, claim.dims,
                                                    evaluate::default_params(*where.op))
                               : candidate;
  if (!pinned) return std::nullopt;
  packs::Measured measured{claim.dims, claim.metrics, where.evaluator->protocol_hash(),
                           base::Json::object(),
                           where.evaluator->protocol().value("proof", base::Json::object())};
  for (const auto& input : where.op->runtime_inputs)
    measured.runtime_inputs[input.name] =
        is_metal ? base::Json(input.default_value) : base::Json(input.proved);
  measured.proof["bit_exact"] = claim.metrics.bit_exact;
  if (where.device->checks()) measured.proof["races"] = "checked";
  auto entry = packs::make_entry(*pinned, measured, where.device->id(),
                                 where.evaluator->runtime().at("mlx_version").get<std::string>());
  if (is_metal) entry.other["found_as"] = candidate.id();  // in the records of the run
  return entry;
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
  spec::Candidate result = packs::candidate_as_stored(entry);
  result.op_name = op.name;
  result.variant = variant->name;
  result.dtype = spec::parse_dtype(entry.key.dtype);
  result.knobs = knobs_of(entry);
  return result;
}

}  // namespace mlx_kd::discover
