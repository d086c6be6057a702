#include "mlx_kd/archive/report/report.h"

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/report/knob_effects.h"
#include "mlx_kd/archive/text.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

std::vector<std::string> table_row(const SizeResult& size) {
  const spec::Metrics& m = size.metrics;
  return {plain_line(size.dims.text()),
          size.best ? plain_line(size.best->candidate_id) : "-",
          number(m.kernel_us),
          number(m.latency_us),
          number(m.baseline_us),
          ratio(m.speedup_vs_ref),
          interval(m.speedup_lo, m.speedup_hi),
          interval(m.expect_lo, m.expect_hi),
          size.won ? "pinned" : "no pin: " + plain_line(size.why_not)};
}

Json size_json(const SizeResult& size, const RunData& run) {
  const auto others = run.left_out.statuses.find(spec::Status::benchmarked);
  return {{"shape", size.dims.json()},
          {"candidate_id", size.best ? Json(size.best->candidate_id) : Json()},
          {"knobs", size.best ? size.best->candidate.template_params : Json()},
          {"variant", size.best ? Json(size.best->candidate.variant) : Json()},
          {"pinned", size.won},
          {"reason", size.why_not},
          {"measured",
           size.ranked.size() + (others == run.left_out.statuses.end() ? 0 : others->second)},
          {"metrics", spec::to_json(size.metrics)}};
}

Json failures_json(const RunData& run) {
  Json result = Json::object();
  for (const FailureKind& kind : failures(run)) result[spec::name_of(kind.status)] = kind.count;
  return result;
}

Json knobs_json(const KnobNotes& notes) {
  Json knobs = Json::array();
  for (const KnobEffect& knob : notes.knobs) {
    Json values = Json::array();
    for (const ValueEffect& v : knob.values)
      values.push_back(
          {{"value", v.value}, {"count", v.count}, {"factor", v.factor}, {"median", v.median}});
    knobs.push_back({{"knob", knob.knob}, {"share", knob.share}, {"values", values}});
  }
  return {{"explained", notes.explained}, {"candidates", notes.candidates}, {"knobs", knobs}};
}

Json aa_json(const RunData& run) {
  Json result = Json::array();
  if (run.finish)
    for (const AaPair& pair : run.finish->aa)
      result.push_back({{"shape", pair.dims.json()},
                        {"ratio", pair.ratio},
                        {"lo", pair.lo},
                        {"hi", pair.hi},
                        {"spread", pair.spread}});
  return result;
}

}  // namespace

std::string report_table(const RunData& run) {
  std::vector<std::vector<std::string>> rows = {{"size", "candidate", "kernel us", "graph us",
                                                 "MLX us", "speed-up", "95% CI", "a new process",
                                                 ""}};
  for (const SizeResult& size : size_results(run)) rows.push_back(table_row(size));
  return aligned(rows);
}

Json report_json(const RunData& run) {
  Json sizes = Json::array(), seconds = Json::object();
  for (const SizeResult& size : size_results(run)) sizes.push_back(size_json(size, run));
  for (const auto& [stage, spent] : time_spent(run)) seconds[stage] = spent;
  return {{"op_name", run.meta.op_name},
          {"dtype", run.meta.dtype},
          {"seed", run.meta.seed},
          {"budget", run.meta.budget},
          {"shape_suite", run.meta.shape_suite},
          {"device", run.meta.device},
          {"runtime", run.meta.runtime},
          {"protocol", run.meta.protocol},
          {"evaluated", evaluated(run)},
          {"finished", run.finish.has_value()},
          {"sizes", sizes},
          {"failures", failures_json(run)},
          {"knob_notes", knobs_json(knob_notes(run))},
          {"aa", aa_json(run)},
          {"seconds", seconds}};
}

void write_report(const std::filesystem::path& dir, const RunData& run) {
  base::write_file_atomically(dir / "report.md", report_markdown(run), "archive");
  base::write_file_atomically(dir / "report.html", report_html(run), "archive");
}

}  // namespace mlx_kd::archive
