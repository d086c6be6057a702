#include "mlx_kd/discover/models/tune_report.h"

#include <cmath>
#include <cstdio>

#include "mlx_kd/archive/report/report_style.h"
#include "mlx_kd/archive/report/svg.h"
#include "mlx_kd/archive/text.h"
#include "mlx_kd/discover/models/tune_gains.h"
#include "mlx_kd/discover/models/tune_state.h"

namespace mlx_kd::discover {
namespace {

using archive::escape_html;
using archive::number;
using base::Json;

constexpr double kBarWidth = 600, kBarHeight = 26;
constexpr const char* kColours[] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                    "#56b4e9", "#d55e00", "#999999", "#b8a000"};

struct Totals {
  double before_s = 0, after_s = 0;
  bool whole = true;  // every use was measured
};

Totals totals_of(const TuneOutcome& outcome, bool prompt) {
  Totals totals;
  for (const UseResult& result : outcome.uses) {
    if (result.use->prompt != prompt) continue;
    if (!std::isfinite(result.before_s())) {
      totals.whole = false;
      continue;
    }
    totals.before_s += result.before_s();
    totals.after_s += result.after_s();
  }
  return totals;
}

Json use_json(const UseResult& result) {
  const ModelUse& use = *result.use;
  Json json = {{"op", use.op->name},
               {"name", use.name},
               {"pass", use.prompt ? "prompt" : "decode"},
               {"reason", use.reason},
               {"calls", use.calls},
               {"size", use.sizes.front().json()},
               {"pinned", result.pinned},
               {"searched", result.searched},
               {"is_default", result.is_default},
               {"evaluated", result.evaluated},
               {"in_model", gain_json(result.in_model)},
               {"candidate_id", result.candidate_id},
               {"knobs", result.knobs},
               {"left", result.left}};
  put_measured(json, "mlx_us", result.mlx_us);
  put_measured(json, "default_us", result.default_us);
  put_measured(json, "us", result.us);
  put_measured(json, "speedup_lo", result.speedup_lo);
  put_measured(json, "speedup_hi", result.speedup_hi);
  return json;
}

Json pass_json(const Totals& totals) {
  return {{"before_us", 1e6 * totals.before_s},
          {"after_us", 1e6 * totals.after_s},
          {"whole", totals.whole}};
}

std::string time_text(double seconds) {
  if (seconds >= 1) return number(seconds) + " s";
  return seconds >= 1e-3 ? number(1e3 * seconds) + " ms" : number(1e6 * seconds) + " us";
}

std::string words(double x, double y, const std::string& text) {
  return "<text " + archive::px("x", x) + " " + archive::px("y", y) + ">" + escape_html(text) +
         "</text>\n";
}

// One bar of parts; `per_s` pixels a second.
std::string parts(const TuneOutcome& outcome, bool prompt, bool after, double y, double per_s) {
  std::string text;
  double x = 0;
  size_t colour = 0;
  for (const UseResult& result : outcome.uses) {
    if (result.use->prompt != prompt) continue;
    const double seconds = after ? result.after_s() : result.before_s();
    const char* const fill = kColours[colour++ % std::size(kColours)];
    if (!std::isfinite(seconds)) continue;
    text += "<rect " + archive::px("x", x) + " " + archive::px("y", y) + " " +
            archive::px("width", seconds * per_s) + " " + archive::px("height", kBarHeight) +
            " fill=\"" + fill + "\"><title>" +
            escape_html(result.use->name + ": " + time_text(seconds)) + "</title></rect>\n";
    x += seconds * per_s;
  }
  return text;
}

std::string bars(const TuneOutcome& outcome, bool prompt, const std::string& what) {
  const Totals totals = totals_of(outcome, prompt);
  const double longest = std::max(totals.before_s, totals.after_s);
  if (longest <= 0) return "";
  const double per_s = kBarWidth / longest;
  return "<svg viewBox=\"0 0 600 112\" role=\"img\" aria-label=\"" + escape_html(what) + "\">\n" +
         words(0, 14, "MLX: " + time_text(totals.before_s)) +
         parts(outcome, prompt, false, 20, per_s) +
         words(0, 72, "with the pins: " + time_text(totals.after_s)) +
         parts(outcome, prompt, true, 78, per_s) + "</svg>\n";
}

std::string legend(const TuneOutcome& outcome, bool prompt) {
  std::string text = "<ul class=\"chips\">";
  size_t colour = 0;
  for (const UseResult& result : outcome.uses) {
    if (result.use->prompt != prompt) continue;
    text += std::string("<li><span style=\"color:") + kColours[colour++ % std::size(kColours)] +
            "\">&#9632;</span> " + escape_html(result.use->name) + "</li>";
  }
  return text + "</ul>\n";
}

std::string cell(const std::string& text, const char* style = "n") {
  return std::string("<td class=\"") + style + "\">" + escape_html(text) + "</td>";
}

// Of the search's winner: "1.021 (1.010 to 1.034)".
std::string in_model(const Gain& gain) {
  if (!std::isfinite(gain.ratio)) return "";
  return number(gain.ratio, 4) + " (" + number(gain.lo, 4) + " to " + number(gain.hi, 4) + ")";
}

std::string use_row(const UseResult& result) {
  const ModelUse& use = *result.use;
  const std::string outcome = !result.pinned      ? "no pin: " + result.left
                              : result.is_default ? "pinned, default"
                                                  : "pinned";
  return "<tr>" + cell(use.name, "") + cell(std::to_string(use.calls)) +
         cell(use.sizes.front().text(), "wrap") + cell(number(result.mlx_us)) +
         cell(number(result.default_us)) + cell(number(result.us)) +
         cell(archive::interval(result.speedup_lo, result.speedup_hi)) +
         cell(in_model(result.in_model)) + cell(outcome, result.pinned ? "win" : "wrap") +
         cell(std::to_string(result.evaluated)) + cell(use.reason, "wrap") + "</tr>\n";
}

std::string table(const TuneOutcome& outcome) {
  std::string text =
      "<div class=\"scroll\"><table><tr><th>use</th><th>calls</th><th>size</th><th>MLX "
      "µs</th><th>default µs</th><th>now µs</th><th>speed-up</th><th>in the "
      "model</th><th></th><th>kernels "
      "tried</th><th>where</th></tr>\n";
  for (const UseResult& result : outcome.uses) text += use_row(result);
  return text + "</table></div>\n";
}

std::string pass_section(const TuneOutcome& outcome, bool prompt, const std::string& title,
                         const std::string& note) {
  const std::string drawn = bars(outcome, prompt, title);
  if (drawn.empty()) return "";
  return "<section class=\"wide\"><h2>" + escape_html(title) + "</h2><p class=\"note\">" +
         escape_html(note) + "</p>\n" + drawn + legend(outcome, prompt) + "</section>\n";
}

std::string lines_section(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string text = "<section class=\"wide\"><h2>" + title + "</h2><ul>";
  for (const std::string& line : lines) text += "<li class=\"note\">" + escape_html(line) + "</li>";
  return text + "</ul></section>\n";
}

// "decode, 1 token: 1.012 (1.003 to 1.020) times as fast ...".
std::string pass_line(const ModelPass& pass, const PassTrial& trial) {
  std::string line = (pass.prompt ? "a prompt of " : "decoding ") + std::to_string(pass.tokens) +
                     (pass.tokens == 1 ? " token" : " tokens") + ": winners of " +
                     std::to_string(trial.kept.size()) + " of " +
                     std::to_string(trial.tried.size()) + " uses are in the pack";
  if (std::isfinite(trial.together.ratio))
    line += "; with all of them it was " + in_model(trial.together) +
            " times as fast as with default kernels";
  if (std::isfinite(trial.over_patch.ratio))
    line +=
        "; with the pack it is " + in_model(trial.over_patch) + " times as fast as without a pack";
  if (!trial.has_pins) line += ", so that none of its uses has a pin";
  return line;
}

std::string trial_section(const TuneRequest& request, const TuneOutcome& outcome) {
  std::vector<std::string> lines;
  const auto passes = passes_of(request.sizes);
  for (size_t i = 0; i < outcome.trial.passes.size(); ++i)
    lines.push_back(pass_line(passes[i], outcome.trial.passes[i]));
  if (!outcome.trial.was_made())
    lines = {"No trial was made (" + outcome.trial.why_not +
             "): winners are in the pack that were " + number(kLeastGain) +
             " times as fast as the default kernel, alone."};
  return lines_section("Winners in the model's code", lines);
}

std::string sources_section(const ModelUses& uses) {
  std::vector<std::string> lines = uses.differences;
  if (!uses.not_run.empty())
    lines = {"The model's code was not run, so that calls are what its config tells: " +
             uses.not_run};
  return lines_section("What the model's code calls otherwise than its config tells", lines) +
         lines_section("Operators without sizes in this config", uses.without);
}

}  // namespace

Json tune_report_json(const TuneRequest& request, const TuneOutcome& outcome) {
  Json json = {{"model", request.model},
               {"device", request.device},
               {"dtype", spec::name_of(request.dtype)},
               {"rows", request.sizes.rows},
               {"prompt", request.sizes.prompt},
               {"time_budget_s", request.time_budget_s},
               {"seconds", outcome.seconds},
               {"finished", !outcome.interrupted},
               {"pins", outcome.pins},
               {"trial", trial_json(outcome.trial)},
               {"token", pass_json(totals_of(outcome, false))},
               {"prompt_pass", pass_json(totals_of(outcome, true))},
               {"uses", Json::array()},
               {"without", request.uses.without},
               {"model_code",
                {{"not_run", request.uses.not_run}, {"differences", request.uses.differences}}}};
  for (const UseResult& result : outcome.uses) json["uses"].push_back(use_json(result));
  return json;
}

std::string tune_report_html(const TuneRequest& request, const TuneOutcome& outcome) {
  const std::string title = request.model + ", " + spec::name_of(request.dtype);
  const Totals token = totals_of(outcome, false);
  const std::string lead = token.after_s > 0
                               ? "The operators of a token: " + time_text(token.before_s) +
                                     " with MLX, " + time_text(token.after_s) + " with the pins."
                               : "Nothing was measured yet.";
  const std::string estimate =
      "Calls times the time of one call, measured in a graph. What a model does in addition to "
      "these "
      "operators is not in it; kd promote measures the whole.";
  const std::string prompt_note = "A prompt of " + std::to_string(request.sizes.prompt) +
                                  " tokens. Where a product or attention would take MLX longer "
                                  "than 50 ms, its time is taken from fewer tokens (32, or 256 of "
                                  "a product in float32; one in a step) and counts as often as the "
                                  "prompt has as many.";
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width, "
         "initial-scale=1\">\n<title>" +
         escape_html(title) + "</title>\n<style>" + archive::kReportStyle +
         "</style></head>\n<body><main>\n<header><h1>" + escape_html(title) +
         "</h1><p class=\"lead\">" + escape_html(lead) + "</p></header>\n<div class=\"grid\">\n" +
         pass_section(outcome, false, "Where the time of a token goes", estimate) +
         pass_section(outcome, true, "Where the time of a prompt goes", prompt_note) +
         "<section class=\"wide\"><h2>Uses</h2>" + table(outcome) + "</section>\n" +
         trial_section(request, outcome) + sources_section(request.uses) +
         "</div></main></body></html>\n";
}

}  // namespace mlx_kd::discover
