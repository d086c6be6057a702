#include "mlx_kd/archive/report/analysis.h"

#include <algorithm>

#include "mlx_kd/archive/text.h"
#include "mlx_kd/spec/order.h"

namespace mlx_kd::archive {
namespace {

bool measured(const Record& record) {
  return record.verdict.status == spec::Status::benchmarked;
}

std::vector<const Record*> ranked_on(const RunData& run, const spec::Dims& dims) {
  std::vector<const Record*> records;
  std::vector<spec::Ranked> keys;
  for (const Record& record : run.records) {
    const spec::Metrics* metrics = measured(record) ? metrics_on(record, dims) : nullptr;
    if (!metrics) continue;
    records.push_back(&record);
    keys.push_back({metrics, record.candidate_id});
  }
  std::vector<const Record*> result;
  for (size_t i : spec::rank(keys)) result.push_back(records[i]);
  return result;
}

const std::string* winner_on(const RunData& run, const spec::Dims& dims) {
  if (run.finish)
    for (const Winner& winner : run.finish->winners)
      if (winner.dims == dims) return &winner.candidate_id;
  return nullptr;
}

// The claim of that candidate; without one named, the first (finalists are best first).
const Claim* claim_on(const RunData& run, const spec::Dims& dims, const std::string* id) {
  if (run.finish)
    for (const Claim& claim : run.finish->claims)
      if (claim.dims == dims && (!id || claim.candidate_id == *id)) return &claim;
  return nullptr;
}

std::string why_not(const SizeResult& result, const RunData& run) {
  if (result.won) return "";
  if (!result.best) return "no candidate was measured";
  if (result.claim && !result.claim->reason.empty()) return result.claim->reason;
  return run.finish ? "no speed-up over MLX could be claimed" : "the run is not finished";
}

SizeResult result_on(const RunData& run, const spec::Dims& dims) {
  SizeResult result;
  result.dims = dims;
  result.ranked = ranked_on(run, dims);
  if (!result.ranked.empty()) result.best = result.ranked.front();
  const std::string* winner = winner_on(run, result.dims);
  result.claim = claim_on(run, result.dims, winner);
  const std::string id = winner ? *winner : result.claim ? result.claim->candidate_id : "";
  for (const Record* record : result.ranked)
    if (record->candidate_id == id) result.best = record;
  result.won = winner && result.best;
  result.why_not = why_not(result, run);
  if (result.claim)
    result.metrics = result.claim->metrics;
  else if (result.best)
    result.metrics = *metrics_on(*result.best, dims);
  return result;
}

void add_example(FailureKind& kind, const Record& record) {
  ++kind.count;
  for (const auto& [id, reason] : kind.examples)
    if (reason == record.verdict.reason) return;
  if (kind.examples.size() < 3)
    kind.examples.emplace_back(record.candidate_id, record.verdict.reason);
}

double sum_of(const RunData& run, const std::string& stage) {
  double sum = 0;
  for (const Record& record : run.records)
    if (const auto at = record.verdict.seconds.find(stage);
        at != record.verdict.seconds.end() && at->is_number())
      sum += at->get<double>();
  const auto left_out = run.left_out.seconds.find(stage);
  return left_out == run.left_out.seconds.end() ? sum : sum + left_out->second;
}

}  // namespace

bool times_are_invented(const RunMeta& meta) {
  return meta.protocol == "null";
}

const spec::Metrics* metrics_on(const Record& record, const spec::Dims& dims) {
  for (const spec::SizeMetrics& size : record.verdict.sizes)
    if (size.dims == dims) return &size.metrics;
  return nullptr;
}

std::vector<SizeResult> size_results(const RunData& run) {
  std::vector<SizeResult> results;
  for (const spec::Dims& dims : run.meta.sizes) results.push_back(result_on(run, dims));
  return results;
}

std::vector<double> scores(const RunData& run) {
  const bool by_objective =
      std::all_of(run.records.begin(), run.records.end(), [](const Record& record) {
        return !measured(record) || std::isfinite(record.verdict.objective);
      });
  std::vector<double> result;
  for (const Record& record : run.records) {
    const double time = std::log(ranking_time_us(record.verdict.metrics));
    const double score = by_objective ? record.verdict.objective : time;
    result.push_back(measured(record) ? score : spec::kUnmeasured);
  }
  return result;
}

std::vector<double> best_so_far(const std::vector<double>& scores) {
  std::vector<double> result;
  double best = spec::kUnmeasured;
  for (double score : scores) result.push_back(best = std::fmin(best, score));
  return result;
}

ErrorPlane error_plane(const RunData& run) {
  ErrorPlane plane;
  plane.of_bound = std::all_of(run.records.begin(), run.records.end(), [](const Record& record) {
    return !measured(record) || std::isfinite(record.verdict.metrics.error_bound_used);
  });
  for (size_t i = 0; i < run.records.size(); ++i) {
    const spec::Metrics& metrics = run.records[i].verdict.metrics;
    const double error =
        plane.of_bound ? metrics.error_bound_used : metrics.correctness_max_abs_err;
    const double time = ranking_time_us(metrics);
    if (measured(run.records[i]) && std::isfinite(time) && std::isfinite(error))
      plane.points.push_back({i, time, error, false});
  }
  std::sort(plane.points.begin(), plane.points.end(), [](const ErrorPoint& a, const ErrorPoint& b) {
    return std::tie(a.time_us, a.error, a.record) < std::tie(b.time_us, b.error, b.record);
  });
  double closest = std::numeric_limits<double>::infinity();
  for (ErrorPoint& point : plane.points) {
    point.on_frontier = point.error < closest;
    closest = std::min(closest, point.error);
  }
  return plane;
}

std::string error_remark(const ErrorPlane& plane) {
  const auto closer = [](const ErrorPoint& a, const ErrorPoint& b) { return a.error < b.error; };
  const auto [least, most] = std::minmax_element(plane.points.begin(), plane.points.end(), closer);
  if (plane.points.size() < 2 || most->error > 1.01 * least->error) return "";
  return " All err alike here: storing the result in its type costs more than all that went "
         "before.";
}

std::vector<FailureKind> failures(const RunData& run) {
  std::map<spec::Status, FailureKind> kinds;
  for (const Record& record : run.records) {
    if (measured(record)) continue;
    FailureKind& kind = kinds[record.verdict.status];
    kind.status = record.verdict.status;
    add_example(kind, record);
  }
  for (const auto& [status, count] : run.left_out.statuses)
    if (status != spec::Status::benchmarked && count > 0) {
      kinds[status].status = status;
      kinds[status].count += count;
    }
  std::vector<FailureKind> result;
  for (auto& entry : kinds) result.push_back(std::move(entry.second));
  std::stable_sort(result.begin(), result.end(),
                   [](const FailureKind& a, const FailureKind& b) { return a.count > b.count; });
  return result;
}

base::Json runtime_without_target(const RunMeta& meta) {
  base::Json runtime = meta.runtime;
  runtime.erase("target");
  return runtime;
}

std::vector<std::pair<std::string, double>> time_spent(const RunData& run) {
  std::vector<std::pair<std::string, double>> result;
  double wall = spec::kUnmeasured, known = 0;
  if (run.finish && !run.finish->seconds.empty()) {
    for (const auto& [stage, value] : run.finish->seconds.items())
      if (value.is_number() && stage != "wall") result.emplace_back(stage, value.get<double>());
    wall = run.finish->seconds.value("wall", spec::kUnmeasured);
  } else {
    for (const char* stage : {"compile", "prove", "time"})
      result.emplace_back(stage, sum_of(run, stage));
  }
  for (const auto& entry : result) known += entry.second;
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (std::isfinite(wall)) result.emplace_back("own", std::max(0.0, wall - known));
  return result;
}

uint64_t evaluated(const RunData& run) {
  return run.records.size() + run.left_out.records;
}

std::vector<double> steps_of(const RunData& run) {
  std::vector<double> result;
  for (size_t i = 0; i < run.records.size(); ++i)
    result.push_back(static_cast<double>(run.left_out.records ? run.records[i].step : i) + 1);
  return result;
}

std::vector<std::string> remarks(const RunData& run) {
  std::vector<std::string> result;
  if (run.left_out.records)
    result.push_back("Of " + std::to_string(evaluated(run)) + " evaluations, " +
                     std::to_string(run.records.size()) +
                     " are in the charts and in the effects of knobs: the best of each size, each "
                     "that was the best so far, failures, and others at equal distances.");
  if (!run.finish || !run.finish->notes.is_object()) return result;
  for (const auto& remark : run.finish->notes.value("remarks", base::Json::array()))
    if (remark.is_string()) result.push_back(remark);
  return result;
}

namespace {

// "1 to 512".
std::string ends_text(const base::Json& ends) {
  std::string text = joined(ends);
  if (const size_t comma = text.find(", "); comma != text.npos) text.replace(comma, 2, " to ");
  return text;
}

}  // namespace

std::vector<std::string> range_lines(const RunData& run) {
  std::vector<std::string> result;
  if (!run.finish || !run.finish->notes.is_object()) return result;
  for (const auto& range : run.finish->notes.value("row_ranges", base::Json::array())) {
    if (!range.is_object()) continue;
    const auto object = [&](const char* name) {
      const base::Json value = range.value(name, base::Json::object());
      return value.is_object() ? value : base::Json::object();
    };
    base::Json ranges = object("ranges"), sampled = object("sampled");
    if (range.contains("rows_range")) {
      ranges["rows"] = range.at("rows_range");
      sampled["rows"] = range.value("rows_sampled", base::Json::array());
    }
    std::string dims, size, samples;
    for (const auto& [dim, ends] : ranges.items()) {
      dims += (dims.empty() ? "" : ", ") + dim + " " + ends_text(ends);
      if (ranges.size() > 1) samples += (samples.empty() ? "" : "; ") + dim + " ";
      samples += joined(sampled.value(dim, base::Json::array()));
    }
    const base::Json shape = object("shape");
    for (const auto& [name, value] : shape.items())
      size += (size.empty() ? "" : ",") + name + "=" + value.dump();
    result.push_back(dims + " (" + size +
                     "): " + joined(range.value("candidate_id", base::Json::array())) +
                     ", faster than MLX at " + samples);
  }
  return result;
}

}  // namespace mlx_kd::archive
