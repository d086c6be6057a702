// Packs in the field name kernels by hashes: of the first four operators, the text, the knobs and
// the launch of every variant stay byte for byte.
//
// golden.json was written once, when those packs were. An entry of `candidates` says what to make
// (op, language, variant, dtype, cpu: a name in `cpus`; knobs, or "default") and what must come of
// it. It is never generated again: what a later version adds is a new variant, with entries of its
// own.
#include <gtest/gtest.h>

#include <set>

#include "mlx_kd/base/files.h"
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/spec/op/candidate.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {
namespace {

using base::Json;

const Json& golden() {
  static const std::string path = std::string(MLX_KD_SOURCE_DIR) + "/tests/kernels/golden.json";
  static const Json json = base::parse_json(base::read_file(path, "test"), "test", path);
  return json;
}

spec::DeviceTraits traits_of(const Json& cpu) {
  spec::DeviceTraits traits;
  traits.cores = cpu.at("cores");
  traits.vector_bytes = cpu.at("vector_bytes");
  traits.isa = cpu.at("isa").get<std::vector<std::string>>();
  return traits;
}

const spec::Variant& variant_of(const spec::Op& op, const Json& entry) {
  spec::Candidate wanted;
  wanted.variant = entry.at("variant");
  wanted.language = entry.at("language");
  return spec::variant_of(op, wanted);
}

Json values_of(const spec::Space& space) {
  Json result = Json::object();
  for (const spec::Knob& knob : space.knobs) result[knob.name] = knob.values;
  return result;
}

Json made_of(const spec::Candidate& candidate) {
  return {{"id", candidate.id()},
          {"source_hash", candidate.source_hash()},
          {"func_name", candidate.func_name},
          {"launch_params", candidate.launch_params}};
}

std::vector<double> golden_defaults_of(const spec::Op& op) {
  std::vector<double> params;
  for (const auto& input : op.scalars) params.push_back(input.default_value);
  return params;
}

// The entry with what this build makes of it in the place of what it holds.
Json remade(const Json& entry) {
  const spec::Op& op = find_op(entry.at("op"));
  const spec::Variant& variant = variant_of(op, entry);
  const spec::Dtype dtype = spec::parse_dtype(entry.at("dtype").get<std::string>());
  const spec::Space space =
      variant.space(dtype, traits_of(golden().at("cpus").at(entry.at("cpu").get<std::string>())));
  const spec::Setting knobs = entry.at("knobs") == "default"
                                  ? spec::default_setting(space)
                                  : spec::Setting::from_json(entry.at("knobs"));
  EXPECT_TRUE(spec::is_valid(space, knobs)) << knobs.text();
  const spec::Dims dims = spec::complete(op, op.suites.front().sizes.front());
  const auto candidate = spec::make_candidate(op, variant, dtype, knobs, space, dims);
  Json result = made_of(candidate);
  for (const char* given : {"op", "language", "variant", "dtype", "cpu", "knobs"})
    result[given] = entry.at(given);
  result["template_params"] = candidate.template_params;
  if (entry.contains("space")) result["space"] = values_of(space);
  if (entry.contains("points")) result["points"] = count_valid(space);
  if (variant.language == "metal")
    result["body"] = made_of(body_form(op, candidate, dims, golden_defaults_of(op)).value());
  return result;
}

TEST(Golden, CandidatesStayByteForByte) {
  for (const Json& entry : golden().at("candidates")) EXPECT_EQ(remade(entry), entry);
}

TEST(Golden, HoldsEveryOperatorVariantAndType) {
  std::set<std::string> kinds;
  for (const Json& entry : golden().at("candidates"))
    kinds.insert(entry.at("op").get<std::string>() + " " + entry.at("language").get<std::string>() +
                 " " + entry.at("dtype").get<std::string>());
  EXPECT_EQ(kinds.size(), 4u * 2 * 3);
}

}  // namespace
}  // namespace mlx_kd::kernels
