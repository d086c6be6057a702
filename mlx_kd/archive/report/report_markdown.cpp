#include <algorithm>

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/report/knob_effects.h"
#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/text.h"

namespace mlx_kd::archive {
namespace {

using Row = std::vector<std::string>;

std::string row_of(const Row& cells) {
  std::string text = "|";
  for (const std::string& cell : cells) text += " " + cell + " |";
  return text + "\n";
}

std::string table(const Row& head, const std::vector<Row>& rows) {
  std::string text = row_of(head) + "|";
  for (size_t i = 0; i < head.size(); ++i) text += " --- |";
  text += "\n";
  for (const Row& row : rows) text += row_of(row);
  return text + "\n";
}

std::string code_of(const base::Json& value) {
  return markdown_code(joined(value));
}

std::string counts_text(const RunData& run) {
  size_t failed = 0;
  for (const FailureKind& kind : failures(run)) failed += kind.count;
  return std::to_string(evaluated(run)) + " evaluated, " + std::to_string(evaluated(run) - failed) +
         " measured, " + std::to_string(failed) + " failed";
}

std::string header(const RunData& run) {
  const RunMeta& meta = run.meta;
  std::string text = "# " + markdown_code(meta.op_name) + "\n\n";
  const auto item = [&](const std::string& name, const std::string& value) {
    text += "- " + name + ": " + value + "\n";
  };
  item("op", markdown_code(meta.op_name));
  item("seed", std::to_string(meta.seed));
  item("budget", std::to_string(meta.budget));
  item("dtype", markdown_code(meta.dtype));
  item("suite", markdown_code(meta.shape_suite));
  item("counts", counts_text(run));
  item("device", markdown_code(meta.device));
  const base::Json runtime = runtime_without_target(meta);
  for (const auto& [key, value] : runtime.items()) item(markdown_code(key), code_of(value));
  for (const auto& [key, value] : meta.target.items())
    item("target " + markdown_code(key), code_of(value));
  item("protocol", markdown_code(meta.protocol));
  item("mlx-kd", markdown_code(meta.mlx_kd_version));
  item("started", markdown_code(meta.created_at));
  item("state", run.finish ? "finished " + markdown_code(run.finish->ts) : "not finished");
  return text + "\n";
}

std::string winners_table(const std::vector<SizeResult>& results, const RunMeta& meta) {
  std::vector<Row> rows;
  for (const SizeResult& size : results) {
    const spec::Metrics& m = size.metrics;
    const std::string id = size.best ? markdown_code(size.best->candidate_id) : "-";
    rows.push_back({markdown_code(size.dims.text()), id, number(m.kernel_us), number(m.latency_us),
                    number(m.baseline_us), ratio(m.speedup_vs_ref),
                    interval(m.speedup_lo, m.speedup_hi), interval(m.expect_lo, m.expect_hi),
                    size.won ? "pinned" : "no pin: " + markdown_code(size.why_not)});
  }
  const std::string about =
      times_are_invented(meta)
          ? kInventedTimes
          : "Speed-ups are over MLX at its best, in a graph, with a 95 % interval; 95 of 100 new "
            "processes see one within the second interval.";
  return "## Winners\n\n" + about + "\n\n" +
         table({"Size", "Candidate", "Kernel us", "Graph us", "MLX us", "Speed-up", "95% CI",
                "A new process", ""},
               rows);
}

std::string ranges_table(const RunData& run) {
  std::string text;
  for (const std::string& line : range_lines(run)) text += "- " + markdown_code(line) + "\n";
  return text.empty() ? "" : "## Ranges\n\n" + text + "\n";
}

std::string top_ten_table(const std::vector<SizeResult>& results) {
  std::string text =
      "## Top 10 by Latency\n\nAs the search measured them; the interval runs from the 10th to the "
      "90th percentile of the samples.\n\n";
  for (const SizeResult& size : results) {
    std::vector<Row> rows;
    for (size_t place = 0; place < std::min<size_t>(10, size.ranked.size()); ++place) {
      const Record& record = *size.ranked[place];
      const spec::Metrics& m = *metrics_on(record, size.dims);
      rows.push_back({std::to_string(place + 1), markdown_code(record.candidate_id),
                      number(m.kernel_us), number(m.latency_us), range(m.p10_us, m.p90_us),
                      number(m.gbps_est), number(m.correctness_max_abs_err),
                      markdown_code(record.candidate.knobs.text())});
    }
    text += "### " + markdown_code(size.dims.text()) + "\n\n";
    text += table({"#", "Candidate", "Kernel us", "Graph us", "p10 to p90 us", "GB/s",
                   "Max abs error", "Knobs"},
                  rows);
  }
  return text;
}

std::string frontier(const RunData& run) {
  const ErrorPlane plane = error_plane(run);
  std::vector<Row> rows;
  for (const ErrorPoint& point : plane.points) {
    const Record& record = run.records[point.record];
    if (point.on_frontier)
      rows.push_back({markdown_code(record.candidate_id), number(point.time_us),
                      number(point.error), markdown_code(record.candidate.knobs.text())});
  }
  return "## Pareto Frontier (Latency vs Error)\n\nNo other candidate is both faster and closer. "
         "Time: geometric mean over the sizes. Error: " +
         std::string(plane.of_bound ? "largest share of the op's error bound that was used."
                                    : "largest absolute error against MLX.") +
         error_remark(plane) + "\n\n" + table({"Candidate", "Time us", "Error", "Knobs"}, rows);
}

std::string value_list(const KnobEffect& knob) {
  std::string text;
  for (const ValueEffect& value : knob.values)
    text += (text.empty() ? "" : "; ") + markdown_code(value.value) + " " +
            percent_change(value.factor) + " (n=" + std::to_string(value.count) + ", median " +
            percent_change(value.median) + ")";
  return text;
}

std::string knobs(const RunData& run) {
  const KnobNotes notes = knob_notes(run);
  std::vector<Row> rows;
  for (const KnobEffect& knob : notes.knobs)
    rows.push_back({markdown_code(knob.knob), percent(knob.share), value_list(knob)});
  return "## Knob Notes\n\nMain effects: an additive model of the logarithm of time, fitted by "
         "least squares to the " +
         std::to_string(notes.candidates) + " measured candidates, explains " +
         percent(notes.explained) +
         " of its variance. Share: covariance of a knob's fitted effect with the score over the "
         "variance of the score; "
         "shares add up to what the model explains. By value: "
         "fitted time against the knob's best value; in brackets the number of candidates and "
         "their median time against the median of all.\n\n" +
         table({"Knob", "Share", "By value"}, rows);
}

std::string failed(const RunData& run) {
  std::vector<Row> rows;
  for (const FailureKind& kind : failures(run))
    for (const auto& [id, reason] : kind.examples)
      rows.push_back({spec::name_of(kind.status), std::to_string(kind.count), markdown_code(id),
                      markdown_code(reason)});
  if (rows.empty()) return "## Failures\n\nNone.\n\n";
  return "## Failures\n\n" + table({"Kind", "Count", "Example", "Reason"}, rows);
}

std::string noise_lines(const RunData& run) {
  std::vector<Row> rows;
  if (run.finish)
    for (const AaPair& pair : run.finish->aa)
      rows.push_back({markdown_code(pair.dims.text()), number(pair.ratio, 4),
                      range(pair.lo, pair.hi, 4), ratio(pair.spread)});
  if (rows.empty()) return "## A/A\n\nNot measured.\n\n";
  return "## A/A\n\nOne kernel timed against itself. Spread: 90th over 10th percentile of the "
         "single ratios.\n\n" +
         table({"Size", "Ratio", "95% CI", "Spread"}, rows);
}

}  // namespace

std::string report_markdown(const RunData& run) {
  const std::vector<SizeResult> results = size_results(run);
  std::string text;
  for (const std::string& line : remarks(run)) text += markdown_code(line) + "\n\n";
  double total = 0;
  for (const auto& entry : time_spent(run)) total += entry.second;
  std::vector<Row> rows;
  for (const auto& [stage, seconds] : time_spent(run))
    rows.push_back({markdown_code(stage), number(seconds), percent(seconds / total)});
  return header(run) + winners_table(results, run.meta) + text + ranges_table(run) +
         top_ten_table(results) + frontier(run) + knobs(run) + failed(run) + noise_lines(run) +
         "## Where the time went\n\n" + table({"Stage", "Seconds", "Share"}, rows);
}

}  // namespace mlx_kd::archive
