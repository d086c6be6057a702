#include "mlx_kd/cli/replay_page.h"

#include <algorithm>

#include "mlx_kd/archive/report/report_style.h"
#include "mlx_kd/archive/report/svg.h"
#include "mlx_kd/archive/text.h"

namespace mlx_kd::cli {
namespace {

using archive::escape_html;

// Every tenth point is enough for a chart.
std::vector<std::pair<double, double>> thinned(const std::vector<double>& curve, double floor) {
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i < curve.size(); i += 10)
    points.push_back({100.0 * static_cast<double>(i) / static_cast<double>(curve.size()),
                      std::max(curve[i], floor)});
  return points;
}

std::string section(const std::string& title, const std::string& note,
                    const std::vector<double>& curve) {
  constexpr double kFloor = -1;
  archive::Plot plot("score of " + title + " over the budget", {0, 100}, {kFloor, 1.05},
                     "share of the budget, %", "0 random search, 1 optimum");
  plot.horizontal(0, "random search");
  plot.horizontal(1, "optimum");
  plot.line(thinned(curve, kFloor), "best");
  return "<section><h2>" + escape_html(title) + "</h2><p class=\"note\">" + escape_html(note) +
         "</p>" + plot.svg() + "</section>\n";
}

std::string with_interval(double score, double lo, double hi) {
  return archive::number(score) + " " + archive::interval(lo, hi);
}

std::string table(const ReplayScores& scores) {
  std::string rows;
  for (const SpaceScore& space : scores.spaces)
    rows += "<tr><td>" + escape_html(space.name) + "</td><td class=\"n\">" +
            std::to_string(space.points) + "</td><td class=\"n\">" +
            archive::number(space.evaluations) + "</td><td class=\"n\">" +
            with_interval(space.score, space.lo, space.hi) + "</td></tr>\n";
  return "<section class=\"wide\"><div class=\"scroll\"><table><tr><th>space</th><th "
         "class=\"n\">points</th><th class=\"n\">evaluations</th><th class=\"n\">score, 95 % "
         "interval</th></tr>\n" +
         rows + "</table></div></section>\n";
}

std::vector<double> mean_curve(const ReplayScores& scores) {
  std::vector<double> mean;
  double count = 0;
  for (const SpaceScore& space : scores.spaces) {
    if (space.curve.empty()) continue;
    mean.resize(space.curve.size());
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += space.curve[i];
    ++count;
  }
  for (double& value : mean) value /= count;
  return mean;
}

}  // namespace

std::string replay_page(const ReplayRequest& request, const ReplayScores& scores) {
  const std::string title = "Replays of " + request.strategy;
  std::string body = section("mean of " + std::to_string(scores.spaces.size()) + " spaces",
                             with_interval(scores.mean, scores.lo, scores.hi), mean_curve(scores));
  for (const SpaceScore& space : scores.spaces)
    body += section(space.name, with_interval(space.score, space.lo, space.hi), space.curve);
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width, initial-scale=1\"><title>" +
         escape_html(title) + "</title><style>" + archive::kReportStyle +
         "</style></head><body><main><header><h1>" + escape_html(title) +
         "</h1><p class=\"lead\">" +
         escape_html("mean score " + with_interval(scores.mean, scores.lo, scores.hi) + ", " +
                     std::to_string(request.repeats) + " repeats a space from seed " +
                     std::to_string(request.seed) + ", batches of " +
                     std::to_string(request.batch) + (request.warm ? ", warm start" : "")) +
         "</p></header><div class=\"grid\">\n" + body + table(scores) +
         "</div></main></body></html>\n";
}

}  // namespace mlx_kd::cli
