#include "mlx_kd/cli/replay.h"

#include <cmath>
#include <cstdio>
#include <memory>

#include "mlx_kd/archive/text.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/replay_page.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct ReplayOptions {
  ReplayRequest request;
  std::string html;
  bool json = false;
};

std::string three_digits(double value) {
  if (std::isnan(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

void tell(const SpaceScore& space) {
  const std::string why = space.unscored.empty() ? "" : ": " + space.unscored;
  std::fprintf(stderr, "%s %s%s\n", archive::plain_line(space.name).c_str(),
               three_digits(space.score).c_str(), why.c_str());
}

std::string text_of(const ReplayScores& scores) {
  std::vector<std::vector<std::string>> rows = {
      {"space", "points", "valid", "evaluations", "score", "95 % interval"}};
  for (const SpaceScore& space : scores.spaces)
    rows.push_back({space.name, std::to_string(space.points), std::to_string(space.valid),
                    archive::number(space.evaluations), three_digits(space.score),
                    "[" + three_digits(space.lo) + ", " + three_digits(space.hi) + "]"});
  return table_text(rows) + "mean " + three_digits(scores.mean) + " [" + three_digits(scores.lo) +
         ", " + three_digits(scores.hi) + "]\n";
}

std::string percent_with_interval(const Regret& regret) {
  const auto text = [](double share) {
    return std::isfinite(share) ? archive::number(100 * share) : std::string("none valid");
  };
  return text(regret.median) + " [" + text(regret.lo) + ", " + text(regret.hi) + "]";
}

// A row a space, a column a budget; nothing where no budget was asked for.
std::string regrets_text(const ReplayRequest& request, const ReplayScores& scores) {
  if (request.budgets.empty()) return "";
  std::vector<std::vector<std::string>> rows = {{"slower than the best, median %"}};
  for (uint64_t budget : request.budgets) rows[0].push_back("after " + std::to_string(budget));
  for (const SpaceScore& space : scores.spaces) {
    rows.push_back({space.name});
    for (const Regret& regret : space.regrets) rows.back().push_back(percent_with_interval(regret));
  }
  return "\n" + table_text(rows);
}

base::OrderedJson regrets_json(const std::vector<Regret>& regrets) {
  base::OrderedJson result = base::OrderedJson::array();
  for (const Regret& regret : regrets)  // an infinite one is written as null
    result.push_back({{"budget", regret.budget},
                      {"median", regret.median},
                      {"lo", regret.lo},
                      {"hi", regret.hi}});
  return result;
}

// True, false, or null where there was nothing to ask.
base::OrderedJson sanity_json(const Sanity& sanity) {
  base::OrderedJson result = {{"no_score_above_one", sanity.above_one.empty()},
                              {"random_about_zero", nullptr}};
  if (sanity.random_was_asked) result["random_about_zero"] = sanity.random_off_zero.empty();
  return result;
}

base::OrderedJson json_of(const ReplayRequest& request, const ReplayScores& scores) {
  base::OrderedJson spaces = base::OrderedJson::array();
  for (const SpaceScore& space : scores.spaces) {
    spaces.push_back({{"space", space.name},
                      {"points", space.points},
                      {"valid", space.valid},
                      {"evaluations", space.evaluations},
                      {"score", space.score},
                      {"lo", space.lo},
                      {"hi", space.hi}});
    if (!space.unscored.empty()) spaces.back()["unscored"] = space.unscored;
    if (!request.budgets.empty()) spaces.back()["regrets"] = regrets_json(space.regrets);
  }
  return {{"strategy", request.strategy},
          {"repeats", request.repeats},
          {"seed", request.seed},
          {"batch", request.batch},
          {"warm", request.warm},
          {"once", request.once},
          {"mean", scores.mean},
          {"lo", scores.lo},
          {"hi", scores.hi},
          {"sanity", sanity_json(sanity_of(request, scores))},
          {"spaces", spaces}};
}

void replay(const ReplayOptions& options) {
  const ReplayScores scores = replay_spaces(options.request, tell);
  if (!options.html.empty())
    base::write_file_atomically(options.html, replay_page(options.request, scores), "cli");
  if (options.json)
    std::printf("%s\n", json_of(options.request, scores).dump(2, ' ', true).c_str());
  else
    std::fputs((text_of(scores) + regrets_text(options.request, scores)).c_str(), stdout);
  // The reader has to know that the scores cannot be trusted.
  const Sanity& sanity = sanity_of(options.request, scores);
  std::string lines;
  for (const auto* broken : {&sanity.above_one, &sanity.random_off_zero})
    for (const std::string& line : *broken) lines += "\n  " + archive::plain_line(line);
  if (!lines.empty())
    base::fail("cli",
               "these scores cannot be trusted: the recording's costs are not those of its "
               "evaluations, or the scorer is wrong:" +
                   lines);
}

}  // namespace

void add_replay(CLI::App& app) {
  auto options = std::make_shared<ReplayOptions>();
  ReplayRequest& request = options->request;
  CLI::App* verb = app.add_subcommand(
      "replay", "Scores a search strategy on recorded spaces: 0 is random search, 1 the optimum.");
  verb->add_option("--spaces", request.spaces,
                   "Kernel Tuner cache (.json, .json.gz), run directory, or a folder of them")
      ->required();
  verb->add_option("--strategy", request.strategy,
                   "tours, random, exhaustive, annealing or genetic")
      ->capture_default_str();
  verb->add_option("--repeats", request.repeats, "Replays of each space, each with its own seed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--seed", request.seed, "Seed of the first repeat")->capture_default_str();
  verb->add_option("--batch", request.batch, "Evaluations proposed at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  verb->add_option("--budgets", request.budgets,
                   "Tell the regret after so many evaluations too: 50,200")
      ->delimiter(',')
      ->check(CLI::Range(1, 1000000));
  verb->add_flag("--warm", request.warm,
                 "Start each space with what the other spaces of its folder say");
  verb->add_flag("--once", request.once,
                 "An evaluation shows one of the recorded single times, drawn by chance, as a run "
                 "sees it; regrets are of the best of the 5 that looked best");
  verb->add_option("--html", options->html, "Write the score curves to this file");
  verb->add_flag("--json", options->json, "Print the scores as JSON");
  verb->callback([options] { replay(*options); });
}

}  // namespace mlx_kd::cli
