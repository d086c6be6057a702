#include "mlx_kd/archive/report/charts.h"

#include <algorithm>
#include <array>
#include <map>

#include "mlx_kd/archive/report/bars.h"
#include "mlx_kd/archive/report/embedding.h"
#include "mlx_kd/archive/report/svg.h"
#include "mlx_kd/archive/text.h"

namespace mlx_kd::archive {
namespace {

using Points = std::vector<std::pair<double, double>>;

std::vector<double> finite(const std::vector<double>& values) {
  std::vector<double> result;
  for (double value : values)
    if (std::isfinite(value)) result.push_back(value);
  return result;
}

// Times relative to the first that was measured.
std::vector<double> relative_times(const std::vector<double>& scores) {
  const std::vector<double> measured = finite(scores);
  std::vector<double> result;
  for (double score : scores) result.push_back(std::exp(score - measured.front()));
  return result;
}

std::string tip_of(const Record& record) {
  std::string tip = record.candidate_id + "\n" + record.candidate.knobs.text();
  const double time = ranking_time_us(record.verdict.metrics);
  if (std::isfinite(time)) tip += "\n" + number(time) + " us";
  if (!record.verdict.reason.empty())
    tip += "\n" + spec::name_of(record.verdict.status) + ": " + record.verdict.reason;
  return tip;
}

// A stair: the best stays until the next is found.
Points stair_of(const std::vector<double>& steps, const std::vector<double>& best) {
  Points points;
  for (size_t i = 0; i < best.size(); ++i) {
    if (!std::isfinite(best[i])) continue;
    const double x = steps[i];
    if (!points.empty()) points.emplace_back(x, points.back().second);
    points.emplace_back(x, best[i]);
  }
  return points;
}

Points frontier_of(const ErrorPlane& plane) {
  Points points;
  for (const ErrorPoint& point : plane.points) {
    if (!point.on_frontier) continue;
    if (!points.empty()) points.emplace_back(point.time_us, points.back().second);
    points.emplace_back(point.time_us, point.error);
  }
  return points;
}

using Places = std::vector<std::array<double, 2>>;

Scale scale_of(const Places& places, size_t axis) {
  std::vector<double> values;
  for (const auto& place : places) values.push_back(place[axis]);
  return scale_over(values);
}

// Knob values are few, so candidates share places: each is moved a little, always the same way.
Places apart(Places places) {
  double size = 0;
  for (const auto& place : places)
    size = std::max({size, std::fabs(place[0]), std::fabs(place[1])});
  for (size_t i = 0; i < places.size(); ++i) {
    const double angle = 2.399963 * static_cast<double>(i);  // the golden angle
    places[i][0] += 0.02 * size * std::cos(angle);
    places[i][1] += 0.02 * size * std::sin(angle);
  }
  return places;
}

void draw_tours(Plot& plot, const RunData& run, const Places& places) {
  if (!run.finish) return;
  std::map<uint64_t, size_t> index;
  for (size_t i = 0; i < run.records.size(); ++i) index[run.records[i].step] = i;
  for (size_t t = 0; t < run.finish->tours.size(); ++t) {
    Points points;
    for (uint64_t step : run.finish->tours[t])
      if (const auto at = index.find(step); at != index.end())
        points.emplace_back(places[at->second][0], places[at->second][1]);
    plot.line(points, "tour t" + std::to_string(t % 4));
  }
}

}  // namespace

std::string convergence_chart(const RunData& run) {
  const std::vector<double> all = scores(run);
  if (finite(all).empty()) return "";
  const std::vector<double> times = relative_times(all), shown = finite(times);
  const double most = static_cast<double>(std::max<uint64_t>(run.meta.budget, evaluated(run)));
  const std::vector<double> steps = steps_of(run);
  Plot plot("Best time so far against the budget", {0, most + 1, false}, scale_over(shown, true),
            "candidates evaluated", "time / first candidate");
  for (size_t i = 0; i < times.size(); ++i)
    if (std::isfinite(times[i])) plot.dot(steps[i], times[i], 3, "c0", tip_of(run.records[i]));
  plot.line(stair_of(steps, best_so_far(times)), "best");
  return plot.svg();
}

std::string gain_chart(const RunData& run) {
  constexpr double kLeast = 1e-3;  // %: below that nothing can be measured
  Points gains;
  std::vector<double> shown;
  const std::vector<double> steps = steps_of(run);
  for (size_t i = 0; i < run.records.size(); ++i) {
    const base::Json gain = run.records[i].notes.value("expected_gain", base::Json());
    if (!gain.is_number()) continue;
    shown.push_back(std::max(100 * gain.get<double>(), kLeast));
    gains.emplace_back(steps[i], shown.back());
  }
  if (gains.size() < 2) return "";
  const double most = static_cast<double>(std::max<uint64_t>(run.meta.budget, gains.size()));
  Plot plot("Expected gain of going on", {0, most + 1, false}, scale_over(shown, true),
            "candidates evaluated", "expected gain, %");
  plot.line(gains, "best");
  return plot.svg();
}

std::string error_chart(const RunData& run) {
  const ErrorPlane plane = error_plane(run);
  if (plane.points.empty()) return "";
  std::vector<double> times, errors = {0};
  for (const ErrorPoint& point : plane.points) {
    times.push_back(point.time_us);
    errors.push_back(point.error);
  }
  Plot plot("Time against error", scale_over(times, true), scale_over(errors),
            "time, µs (geometric mean over the sizes)",
            plane.of_bound ? "share of error bound used" : "largest error");
  plot.line(frontier_of(plane), "best");
  for (const ErrorPoint& point : plane.points)
    plot.dot(point.time_us, point.error, point.on_frontier ? 5 : 3, point.on_frontier ? "c2" : "c0",
             tip_of(run.records[point.record]));
  return plot.svg();
}

std::string tour_chart(const RunData& run) {
  std::vector<std::vector<double>> rows;
  for (const Record& record : run.records) rows.push_back(record.features);
  const Places places = apart(embed_2d(rows));
  if (places.empty() || finite(scores(run)).empty()) return "";
  Plot plot("The walk through the space", scale_of(places, 0), scale_of(places, 1),
            "first principal direction", "second direction");
  plot.hide_axes();
  draw_tours(plot, run, places);
  Points walk;
  for (const auto& place : places) walk.emplace_back(place[0], place[1]);
  plot.line(walk, "walk");
  const std::vector<double> all = scores(run), measured = finite(all);
  const auto [fast, slow] = std::minmax_element(measured.begin(), measured.end());
  for (size_t i = 0; i < places.size(); ++i) {
    const std::string tip = tip_of(run.records[i]);
    if (!std::isfinite(all[i])) {
      plot.dot(places[i][0], places[i][1], 4, "failed", tip);
      continue;
    }
    const double share = *slow > *fast ? (*slow - all[i]) / (*slow - *fast) : 1;
    if (all[i] == *fast) plot.dot(places[i][0], places[i][1], 10, "ring", tip);
    plot.dot(places[i][0], places[i][1], 5, ramp_colour(share), tip);
  }
  return plot.svg();
}

std::string speedup_chart(const std::vector<SizeResult>& results) {
  std::vector<Bar> bars;
  for (const SizeResult& size : results) {
    const spec::Metrics& m = size.metrics;
    if (!std::isfinite(m.speedup_vs_ref)) continue;
    const std::string sure = std::isfinite(m.speedup_lo) && std::isfinite(m.speedup_hi)
                                 ? "  " + interval(m.speedup_lo, m.speedup_hi)
                                 : "";
    bars.push_back({size.dims.text(), ratio(m.speedup_vs_ref) + sure, m.speedup_vs_ref,
                    m.speedup_lo, m.speedup_hi, size.won ? "c1" : "c0"});
  }
  return bar_chart("Speed-up over MLX by size", bars, 1);
}

std::string knob_chart(const KnobNotes& notes) {
  std::vector<Bar> bars;
  for (const KnobEffect& knob : notes.knobs)
    if (bars.size() < 10)
      bars.push_back({knob.knob, percent(knob.share), std::max(0.0, knob.share)});
  return bar_chart("Share of the variance of time by knob", bars, spec::kUnmeasured, 1);
}

std::string time_chart(const RunData& run) {
  double total = 0;
  for (const auto& entry : time_spent(run)) total += entry.second;
  std::vector<Bar> bars;
  for (const auto& [stage, seconds] : time_spent(run))
    bars.push_back({stage == "own" ? "own (search, records, waiting)" : stage,
                    number(seconds) + " s, " + percent(seconds / total), seconds});
  return total > 0 ? bar_chart("Where the time went", bars) : "";
}

}  // namespace mlx_kd::archive
