#include <algorithm>

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/report/charts.h"
#include "mlx_kd/archive/report/knob_effects.h"
#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/report/report_style.h"
#include "mlx_kd/archive/text.h"

namespace mlx_kd::archive {
namespace {

// A cell is escaped text; `style` is its class ("n": a number).
struct Cell {
  std::string text;
  const char* style = "";
};
using Cells = std::vector<Cell>;

std::string row_of(const Cells& cells, const char* tag) {
  std::string text = "<tr>";
  for (const Cell& cell : cells) {
    const std::string style =
        *cell.style ? " class=\"" + std::string(cell.style) + "\"" : std::string();
    text += "<" + std::string(tag) + style + ">" + escape_html(cell.text) + "</" + tag + ">";
  }
  return text + "</tr>\n";
}

std::string table(const Cells& head, const std::vector<Cells>& rows) {
  std::string text = "<div class=\"scroll\"><table>\n" + row_of(head, "th");
  for (const Cells& row : rows) text += row_of(row, "td");
  return text + "</table></div>\n";
}

std::string note(const std::string& text) {
  return "<p class=\"note\">" + escape_html(text) + "</p>\n";
}

// `body` is HTML.
std::string section(const std::string& title, const std::string& body, bool wide = false) {
  if (body.empty()) return "";
  return "<section" + std::string(wide ? " class=\"wide\"" : "") + "><h2>" + escape_html(title) +
         "</h2>\n" + body + "</section>\n";
}

std::string chart_section(const std::string& title, const std::string& says,
                          const std::string& chart, const std::string& below = "") {
  return chart.empty() ? "" : section(title, note(says) + chart + below);
}

std::string fact(const std::string& name, const std::string& value) {
  return "<div><dt>" + escape_html(name) + "</dt><dd>" + escape_html(value) + "</dd></div>\n";
}

// "2.9x MLX on 3 of 4 sizes (geometric mean of the winners)".
std::string headline(const RunData& run, const std::vector<SizeResult>& results) {
  double sum = 0;
  size_t won = 0;
  for (const SizeResult& size : results)
    if (size.won) {
      ++won;
      sum += std::log(size.metrics.speedup_vs_ref);
    }
  const std::string of = std::to_string(won) + " of " + std::to_string(results.size()) + " sizes";
  if (!run.finish) return "The run is not finished: no winner has been chosen yet.";
  if (won == 0) return "No speed-up over MLX could be claimed.";
  const double mean = std::exp(sum / static_cast<double>(won));
  return ratio(mean) + " as fast as MLX on " + of + " (geometric mean of the winners).";
}

std::string header(const RunData& run, const std::vector<SizeResult>& results) {
  const RunMeta& meta = run.meta;
  size_t failed = 0;
  for (const FailureKind& kind : failures(run)) failed += kind.count;
  std::string text = "<header><h1>" + escape_html(meta.op_name) + ", " + escape_html(meta.dtype) +
                     "</h1>\n<p class=\"lead\">" + escape_html(headline(run, results)) +
                     "</p>\n<dl class=\"facts\">\n";
  text += fact("suite", meta.shape_suite) + fact("seed", std::to_string(meta.seed)) +
          fact("budget", std::to_string(meta.budget)) +
          fact("evaluated", std::to_string(evaluated(run))) +
          fact("failed", std::to_string(failed)) + fact("device", meta.device);
  const base::Json runtime = runtime_without_target(meta);
  for (const auto& [key, value] : runtime.items()) text += fact(key, joined(value));
  for (const auto& [key, value] : meta.target.items()) text += fact(key, joined(value));
  return text + fact("started", meta.created_at) + "</dl></header>\n";
}

std::string winners(const std::vector<SizeResult>& results, const RunData& run) {
  std::vector<Cells> rows;
  for (const SizeResult& size : results) {
    const spec::Metrics& m = size.metrics;
    rows.push_back({{size.dims.text()},
                    {ratio(m.speedup_vs_ref), "n"},
                    {interval(m.speedup_lo, m.speedup_hi), "n"},
                    {interval(m.expect_lo, m.expect_hi), "n"},
                    {number(m.kernel_us), "n"},
                    {number(m.latency_us), "n"},
                    {number(m.baseline_us), "n"},
                    {size.won ? "pinned" : "no pin: " + size.why_not, size.won ? "win" : "wrap"},
                    {size.best ? size.best->candidate_id : "-"}});
  }
  std::string remarked;
  for (const std::string& line : remarks(run)) remarked += note(line);
  return section("Winners",
                 note(times_are_invented(run.meta)
                          ? kInventedTimes
                          : "Speed-ups are over MLX at its best, in a graph, re-measured in a "
                            "fresh processes, with a 95 % interval; 95 of 100 new processes see "
                            "one within the second.") +
                     table({{"size"},
                            {"speed-up", "n"},
                            {"95% CI", "n"},
                            {"a new process", "n"},
                            {"kernel µs", "n"},
                            {"graph µs", "n"},
                            {"MLX µs", "n"},
                            {""},
                            {"candidate"}},
                           rows) +
                     remarked,
                 true);
}

std::string ranges_section(const RunData& run) {
  std::string body;
  for (const std::string& line : range_lines(run)) body += note(line);
  return body.empty() ? "" : section("Ranges", body, true);
}

std::string charts(const RunData& run, const std::vector<SizeResult>& results,
                   const KnobNotes& notes) {
  return chart_section("Speed-up by size",
                       "Whiskers: 95 % interval. The mark is 1, as fast as MLX.",
                       speedup_chart(results)) +
         chart_section("Convergence",
                       "Each dot is a candidate; the line is the best so far. Lower is faster.",
                       convergence_chart(run)) +
         chart_section(
             "Expected gain",
             "What going on may still gain over the best so far, one chance in twenty aside: "
             "what --min-gain stops at.",
             gain_chart(run)) +
         chart_section("Time and error",
                       "The line is the frontier: no other candidate is both faster and closer." +
                           error_remark(error_plane(run)),
                       error_chart(run)) +
         chart_section(
             "Tours through the space",
             "Candidates by their features (principal components). Lines: the tours, and the walk "
             "in grey. The ring is the best; hollow ones failed.",
             tour_chart(run),
             "<div class=\"ramp\"><span>slow</span><i></i><span>fast</span></div>") +
         chart_section(
             "Knobs that mattered",
             "Share of the variance of the logarithm of time that a knob explains; all together " +
                 percent(notes.explained) + ".",
             knob_chart(notes)) +
         chart_section("Where the time went", "Seconds of wall time by stage.", time_chart(run));
}

std::string knob_table(const KnobNotes& notes) {
  std::vector<Cells> rows;
  for (const KnobEffect& knob : notes.knobs)
    for (const ValueEffect& value : knob.values)
      rows.push_back({{&value == &knob.values.front() ? knob.knob : ""},
                      {value.value, "n"},
                      {percent_change(value.factor), "n"},
                      {percent_change(value.median), "n"},
                      {std::to_string(value.count), "n"}});
  if (rows.empty()) return "";
  return section(
      "Knob values",
      note("An additive model of the logarithm of time, fitted by least squares to the " +
           std::to_string(notes.candidates) +
           " measured candidates. Fitted: against the knob's best value. Median: of the "
           "candidates with that value, against the median of all.") +
          table({{"knob"}, {"value", "n"}, {"fitted", "n"}, {"median", "n"}, {"n", "n"}}, rows));
}

std::string top_table(const SizeResult& size) {
  std::vector<Cells> rows;
  for (size_t place = 0; place < std::min<size_t>(10, size.ranked.size()); ++place) {
    const Record& record = *size.ranked[place];
    const spec::Metrics& m = *metrics_on(record, size.dims);
    rows.push_back({{std::to_string(place + 1), "n"},
                    {number(m.kernel_us), "n"},
                    {number(m.latency_us), "n"},
                    {range(m.p10_us, m.p90_us), "n"},
                    {number(m.gbps_est), "n"},
                    {number(m.correctness_max_abs_err), "n"},
                    {record.candidate_id},
                    {record.candidate.knobs.text()}});
  }
  return "<h3>" + escape_html(size.dims.text()) + "</h3>\n" +
         table({{"#", "n"},
                {"kernel µs", "n"},
                {"graph µs", "n"},
                {"p10 to p90 µs", "n"},
                {"GB/s", "n"},
                {"max error", "n"},
                {"candidate"},
                {"knobs"}},
               rows);
}

std::string top_ten(const std::vector<SizeResult>& results) {
  std::string body;
  for (const SizeResult& size : results)
    if (!size.ranked.empty()) body += top_table(size);
  return body.empty() ? "" : section("Top 10 by latency, as the search measured them", body, true);
}

std::string failure_section(const RunData& run) {
  std::vector<Cells> rows;
  for (const FailureKind& kind : failures(run))
    for (const auto& [id, reason] : kind.examples)
      rows.push_back({{spec::name_of(kind.status)},
                      {std::to_string(kind.count), "n"},
                      {reason, "wrap"},
                      {id}});
  if (rows.empty()) return section("Failures", note("None."));
  return section("Failures", table({{"kind"}, {"count", "n"}, {"example"}, {"candidate"}}, rows),
                 true);
}

std::string noise(const RunData& run) {
  std::vector<Cells> rows;
  if (run.finish)
    for (const AaPair& pair : run.finish->aa)
      rows.push_back({{pair.dims.text()},
                      {number(pair.ratio, 4), "n"},
                      {range(pair.lo, pair.hi, 4), "n"},
                      {ratio(pair.spread), "n"}});
  if (rows.empty()) return "";
  return section("A/A",
                 note("One kernel timed against itself: what noise alone looks like. Spread: 90th "
                      "over 10th percentile of the single ratios.") +
                     table({{"size"}, {"ratio", "n"}, {"95% CI", "n"}, {"spread", "n"}}, rows));
}

std::string source_details(const Record& record, const std::string& sizes, bool open) {
  std::string text = "<details" + std::string(open ? " open" : "") + "><summary><code>" +
                     escape_html(record.candidate_id) + "</code> on " + escape_html(sizes) +
                     "</summary>\n<ul class=\"chips\">";
  for (const auto& [name, value] : record.candidate.template_params.items())
    text += "<li><code>" + escape_html(name + "=" + joined(value)) + "</code></li>";
  return text + "</ul>\n<pre><code>" + escape_html(record.candidate.source) +
         "</code></pre></details>\n";
}

// Each winner once, with the sizes it won.
std::string sources(const std::vector<SizeResult>& results) {
  std::vector<std::pair<const Record*, std::string>> shown;
  for (const SizeResult& size : results) {
    if (!size.best) continue;
    const auto same = std::find_if(shown.begin(), shown.end(), [&](const auto& entry) {
      return entry.first->candidate_id == size.best->candidate_id;
    });
    if (same == shown.end())
      shown.emplace_back(size.best, size.dims.text());
    else
      same->second += "; " + size.dims.text();
  }
  std::string body;
  for (const auto& [record, sizes] : shown)
    body += source_details(*record, sizes, record == shown.front().first);
  return body.empty() ? "" : section("Source of the winners", body, true);
}

std::string footer(const RunMeta& meta) {
  return "<footer>mlx-kd " + escape_html(meta.mlx_kd_version) + ", protocol " +
         escape_html(meta.protocol) + ", options <code>" + escape_html(meta.options.dump()) +
         "</code></footer>\n";
}

}  // namespace

std::string report_html(const RunData& run) {
  const std::vector<SizeResult> results = size_results(run);
  const KnobNotes notes = knob_notes(run);
  // Nothing in the page may load or run anything, whatever a record says.
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width, "
         "initial-scale=1\">\n<title>" +
         escape_html(run.meta.op_name + ", " + run.meta.dtype) + "</title>\n<style>" +
         kReportStyle + "</style></head>\n<body><main>\n" + header(run, results) +
         "<div class=\"grid\">\n" + winners(results, run) + ranges_section(run) +
         charts(run, results, notes) + knob_table(notes) + noise(run) + failure_section(run) +
         top_ten(results) + sources(results) + "</div>\n" + footer(run.meta) +
         "</main></body></html>\n";
}

}  // namespace mlx_kd::archive
