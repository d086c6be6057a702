#include "mlx_kd/cli/run_outcome.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

std::string sureness(const discover::SizeResult& size) {
  if (!size.claim) return "no kernel passed";
  const auto& m = size.claim->metrics;
  if (size.won && size.claim->kind == spec::ClaimKind::mlx_cannot)
    return size.claim->baseline.empty() ? "not compared with MLX" : "MLX cannot do this here";
  const std::string interval = fixed(m.speedup_lo, 2) + " to " + fixed(m.speedup_hi, 2);
  return size.won ? interval
                  : "no pin: " + (size.claim->reason.empty() ? interval : size.claim->reason);
}

// What 95 of 100 processes see.
std::string expected(const spec::Metrics& m) {
  if (!std::isfinite(m.expect_lo)) return "-";
  return fixed(m.expect_lo, 2) + " to " + fixed(m.expect_hi, 2);
}

std::string outcome_table(const discover::RunOutcome& outcome) {
  const auto has_gain = [](const auto& size) { return size.over_default.has_value(); };
  const bool has_gains = std::any_of(outcome.sizes.begin(), outcome.sizes.end(), has_gain);
  std::vector<std::vector<std::string>> rows = {
      {"size", "kernel us", "in a graph us", "MLX us", "speed-up", "95% CI", "a new process"}};
  if (has_gains) rows.front().push_back("over defaults");
  rows.front().insert(rows.front().end(), {"kernel", "knobs"});
  for (const auto& size : outcome.sizes) {
    const spec::Metrics m = size.claim ? size.claim->metrics : spec::Metrics{};
    std::vector<std::string> row = {size.dims.text(),
                                    fixed(m.kernel_us, 2),
                                    fixed(m.latency_us, 2),
                                    fixed(m.baseline_us, 2),
                                    times(m.speedup_vs_ref),
                                    sureness(size),
                                    size.won ? expected(m) : "-"};
    if (has_gains) row.push_back(times(size.over_default.value_or(NAN)));
    row.insert(row.end(), {size.claim ? size.claim->candidate_id : "-", size.knobs});
    rows.push_back(std::move(row));
  }
  return table_text(rows);
}

// "rows 1 to 512 with D=2048: rmsnorm_0123456789abcdef, faster than MLX at 1, 3, 12, ..."; of
// several dims "rows 1 to 512, S 1 to 64 with ...: ..., faster than MLX at rows 1, 3, ..; S 1, ..".
std::string range_text(const discover::RangeResult& range, const spec::Op& op) {
  std::string dims, samples;
  shapes::DimRanges ranges;
  for (const auto& [dim, values] : range.ranges) {
    ranges.push_back({dim, values.lo, values.hi});
    dims += (dims.empty() ? "" : ", ") + dim + " " + std::to_string(values.lo) + " to " +
            std::to_string(values.hi);
    if (range.ranges.size() > 1) samples += (samples.empty() ? " " : "; ") + dim;
    for (size_t i = 0; i < values.sampled.size(); ++i)
      samples += (i ? ", " : " ") + std::to_string(values.sampled[i]);
  }
  const std::string rest = shapes::rest_of(op, ranges, range.dims);
  return dims + (rest.empty() ? "" : " with " + rest) + ": " + range.candidate_id +
         ", faster than MLX at" + samples + "\n";
}

std::string ranges_text(const discover::RunRequest& request, const discover::RunOutcome& outcome) {
  if (request.ranges.empty()) return "";
  if (outcome.ranges.empty())
    return "no kernel was surely faster than MLX at two neighbouring sampled sizes: no range\n";
  std::string text;
  for (const auto& range : outcome.ranges)
    text += range_text(range, kernels::find_op(request.op_name));
  return text;
}

base::Json outcome_json(const discover::RunOutcome& outcome, const spec::Op& op,
                        const std::string& out) {
  base::Json result = {{"out", out},
                       {"evaluated", outcome.evaluated},
                       {"benchmarked", outcome.benchmarked},
                       {"seconds", outcome.seconds},
                       {"sizes", base::Json::array()}};
  for (const auto& size : outcome.sizes) {
    base::Json row = {{"shape", size.dims.json()}, {"won", size.won}};
    if (size.claim)
      row.update({{"candidate_id", size.claim->candidate_id},
                  {"baseline", size.claim->baseline},
                  {"reason", size.claim->reason},
                  {"metrics", spec::to_json(size.claim->metrics)}});
    if (size.over_default) row["speedup_over_default"] = *size.over_default;
    result["sizes"].push_back(row);
  }
  for (const auto& range : outcome.ranges) result["ranges"].push_back(to_json(range, op));
  if (!outcome.remarks.empty()) result["remarks"] = outcome.remarks;
  return result;
}

}  // namespace

void print_outcome(const discover::RunRequest& request, const discover::RunOutcome& outcome,
                   const std::string& out, bool json) {
  if (json)
    return print(outcome_json(outcome, kernels::find_op(request.op_name), out).dump(2) + "\n");
  print(outcome_table(outcome) + ranges_text(request, outcome));
  for (const std::string& remark : outcome.remarks) print(remark + "\n");
  std::fprintf(stderr,
               "%llu kernels tried, %llu correct and timed, in %s. Report: %s/report.html\n",
               static_cast<unsigned long long>(outcome.evaluated),
               static_cast<unsigned long long>(outcome.benchmarked),
               duration(outcome.seconds).c_str(), out.c_str());
  const bool won =
      std::any_of(outcome.sizes.begin(), outcome.sizes.end(), [](const auto& s) { return s.won; });
  if (won && request.device != "null" && !request.null_times)
    std::fprintf(stderr, "Next: %s install --run %s --output pins.json\n", command().c_str(),
                 out.c_str());
  else
    std::fprintf(stderr, "Next: %s report --run %s --open\n", command().c_str(), out.c_str());
}

}  // namespace mlx_kd::cli
