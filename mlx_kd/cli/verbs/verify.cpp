// kd verify: proof without times.
#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/evaluate/evaluators/verify_candidates.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::cli {
namespace {

struct VerifyOptions {
  std::string op, device = "cpu", dtype = "float16", suite;
  std::vector<std::string> shapes;
  int candidates = 8;
  uint64_t seed = 0;
  bool sanitize = false;
};

using Rows = std::vector<std::vector<std::string>>;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::vector<std::string> row_of(const spec::Candidate& candidate, const spec::Verdict& verdict) {
  const bool proved = verdict.status == spec::Status::benchmarked;
  const spec::Metrics& m = verdict.metrics;
  return {candidate.variant,
          proved ? "proved" : name_of(verdict.status),
          proved ? number(m.error_bound_used) : "-",
          proved ? number(m.correctness_max_abs_err) : "-",
          proved ? (m.bit_exact ? "yes" : "no") : "-",
          candidate.knobs.text(),
          verdict.reason};
}

void verify(const VerifyOptions& options) {
  const spec::Op& op = kernels::find_op(options.op);
  const spec::Dtype dtype = spec::parse_float_dtype(options.dtype);
  const auto device = devices::open_device(options.device);
  const auto sizes =
      shapes::sizes_from(op, options.suite, options.shapes, kernels::all_ops()).sizes;
  devices::check_types(*device, op, dtype, sizes.front());
  const auto candidates =
      evaluate::sample_candidates(op, device->languages(), device->id().traits, dtype,
                                  sizes.front(), options.candidates, options.seed);
  if (candidates.empty())
    base::misuse("cli", "op '" + op.name + "' has no kernel for device '" + options.device +
                            "': see kd ops and kd devices");
  evaluate::EvaluateOptions how;
  how.seed = options.seed;
  how.prove_only = true;
  if (options.sanitize) how.sanitizer = evaluate::find_sanitizer(options.device);
  Rows rows = {{"variant", "status", "of bound", "from MLX", "same bits", "knobs", "reason"}};
  size_t failed = 0;
  evaluate::make_evaluator({&op, options.device, dtype, sizes}, how)
      ->evaluate(candidates, [&](size_t i, const spec::Verdict& verdict) {
        rows.push_back(row_of(candidates[i], verdict));
        failed += verdict.status != spec::Status::benchmarked;
      });
  std::printf("%s", table_text(rows).c_str());
  if (failed > 0)
    base::fail("cli", std::to_string(failed) + " of " + std::to_string(candidates.size()) +
                          " candidates of '" + op.name + "' were not proved: see the table");
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("verify", "Prove kernels against MLX and float64, untimed");
  auto options = std::make_shared<VerifyOptions>();
  verb->add_option("--op", options->op, "The operator (kd ops lists them)")->required();
  verb->add_option("--device", options->device, "Where the kernels run")
      ->transform(devices::choose_device)
      ->capture_default_str();
  verb->add_option("--dtype", options->dtype,
                   "float32, float16 or bfloat16; float64 for some operators")
      ->capture_default_str();
  verb->add_option("--suite", options->suite, "A suite of sizes; the op's first by default");
  verb->add_option("--shapes", options->shapes,
                   "Sizes instead, as rows=1,D=4096 (repeatable) or a JSON file");
  verb->add_option("--candidates", options->candidates,
                   "Random candidates in addition to each variant's default")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Of the random candidates")->capture_default_str();
  verb->add_flag("--sanitize", options->sanitize,
                 "Each proof once more under compute-sanitizer; findings are verdicts (cuda)");
  verb->callback([options] { verify(*options); });
}

}  // namespace mlx_kd::cli
