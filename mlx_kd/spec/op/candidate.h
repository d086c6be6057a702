// One point of a search: an op, a variant of it, a knob setting, a type.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::spec {

struct Candidate {
  std::string op_name;
  std::string variant;
  std::string language;
  Dtype dtype = Dtype::float32;
  Setting knobs;
  std::string source;
  std::string func_name;
  base::Json inputs_spec,
      outputs_spec;  // [{name, dtype, shape, strides: "contiguous"}], of the suite's first size
  base::Json template_params;  // = the knobs
  base::Json launch_params;    // {launch_kind, and the launch knobs}

  // Of the op, in order; not part of the id.
  std::vector<std::string> dim_names, scalar_names;
  std::vector<int> updates;  // per output: the input whose memory it takes over, or -1

  // op_name + "_" + 16 hex digits over the canonical JSON of {op_name, metal_source | source +
  // language, func_name, inputs_spec, outputs_spec, template_params, launch_params}.
  std::string id() const;
  // SHA-256 of the canonical JSON of {metal_source} | {source, language}.
  std::string source_hash() const;
};

// dims are complete (Op::complete) and belong to the suite's first size.
Candidate make_candidate(const Op& op, const Variant& variant, Dtype dtype, const Setting& knobs,
                         const Space& space, const Dims& first_size);

// Whether Metal text that is launched so is the body of a metal_kernel, as zmlx.kd's packs carry
// it, with the size and the model's numbers as constants. A whole file's launch_kind begins with
// "metal_".
bool is_metal_body(const std::string& language, const base::Json& launch_params);

// Its launch_params' launch_kind; empty where there is none (packs may hold anything).
std::string launch_kind_of(const Candidate& candidate);

// Fills in dim_names, scalar_names and updates, which packs and records do not carry.
void name_numbers(Candidate& candidate, const Op& op);

base::Json ports_spec(const std::vector<Port>& ports, Dtype dtype, const Dims& dims);

// The variant of the op that made the candidate. Fails if the op has none of that name and
// language.
const Variant& variant_of(const Op& op, const Candidate& candidate);

}  // namespace mlx_kd::spec
