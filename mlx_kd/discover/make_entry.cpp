#include "mlx_kd/discover/make_entry.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user_kernel.h"
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

// The proof takes the bound of the variant, whatever the entry says.
void check_approximate(const packs::Entry& entry, const spec::Variant& variant) {
  if (entry.approximate == variant.approximate.empty())
    base::misuse("discover",
                 std::string("it is marked as ") + (entry.approximate ? "" : "not ") +
                     "approximate, which the kernels of '" + variant.name.substr(0, 80) + "' are" +
                     (entry.approximate ? " not" : "") + ": find a new kernel with kd run");
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
    if (!body || body->source != entry.source) continue;
    check_approximate(entry, variant);
    return candidate;
  }
  base::misuse("discover", "its source does not match any Metal kernel of '" + op.name +
                               "' in this build: find a new one with kd run");
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
  if (!where.op->description.is_null()) entry.other["kernel"] = where.op->description;
  if (body) entry.other["found_as"] = candidate.id();  // in the records of the run
  return entry;
}

const spec::Op& op_of(const packs::Entry& entry) {
  const auto description = entry.other.find("kernel");
  if (description == entry.other.end()) return kernels::find_op(entry.key.op_name);
  const spec::Op& op = kernels::add_user_op(*description);
  if (op.name != entry.key.op_name)
    base::misuse("discover", "it is for '" + entry.key.op_name.substr(0, 80) +
                                 "' and describes a kernel '" + op.name.substr(0, 80) +
                                 "': the entry is damaged");
  return op;
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

shapes::DimRanges stated_ranges(const packs::Entry& entry, const spec::Op& op) {
  const auto ranges = packs::ranges_of(entry, op.batch_dim);
  shapes::DimRanges result;
  for (const std::string& dim : shapes::ranged_dims(op))
    if (const auto range = ranges.find(dim); range != ranges.end())
      result.push_back({dim, range->second.lo, range->second.hi});
  for (const auto& [dim, range] : ranges)
    if (std::none_of(result.begin(), result.end(),
                     [&dim = dim](const auto& r) { return r.dim == dim; }))
      base::misuse("discover", "it states a range of '" + dim.substr(0, 40) +
                                   "', which may not vary in '" + op.name + "'");
  return result;
}

std::vector<spec::Dims> proved_sizes(const packs::Entry& entry, const spec::Op& op) {
  const spec::Dims size = size_of(entry, op);
  const auto stated = packs::ranges_of(entry, op.batch_dim);
  const shapes::DimRanges ranges = stated_ranges(entry, op);
  shapes::Axes axes;
  for (const auto& range : ranges) {
    axes.push_back({range.lo, range.hi});
    for (const int64_t value : stated.at(range.dim).sampled)
      if (range.holds(value)) axes.back().insert(value);
  }
  std::vector<spec::Dims> result = {size};
  for (const spec::Dims& point : shapes::sizes_of_grid(op, size, ranges, axes))
    if (point != size) result.push_back(point);
  return result;
}

spec::Candidate candidate_of(const packs::Entry& entry, const spec::Op& op) {
  if (entry.contract != op.contract)
    base::misuse("discover", "it is for contract " + std::to_string(entry.contract) + " of '" +
                                 op.name + "', which has contract " + std::to_string(op.contract) +
                                 " in this build: find a new kernel with kd run");
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
  check_approximate(entry, *variant);
  spec::Candidate result = packs::candidate_as_stored(entry);
  result.op_name = op.name;
  result.variant = variant->name;
  result.dtype = spec::parse_float_dtype(entry.key.dtype);
  result.knobs = knobs_of(entry);
  spec::name_numbers(result, op);
  return result;
}

}  // namespace mlx_kd::discover
