// kd suggest-shapes: the problem sizes of a model, or of what a program called.
//
// What --output writes and --json prints, one object:
//   model   {id, config (path), commit (empty where it is local), model_type}; null without a model
//   ops     {op: {sizes: [{rows, D}, ...],         what kd run --shapes takes
//                 suites: [{name, reason, sizes}]}} all that was found, the first one chosen
//   skipped {op: why it has no sizes}
#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/size_options.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/signals.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

using base::Json;
using shapes::Suggestion;

struct SuggestShapesOptions {
  SizeOptions sizes;
  std::string op, output;
  std::vector<std::string> include;
  bool json = false;
};

struct Found {
  const spec::Op* op;
  std::vector<Suggestion> suites;
  std::vector<spec::Dims> chosen;
};

struct Answer {
  std::vector<Found> ops;
  std::vector<std::pair<std::string, std::string>> skipped;  // op, why
};

void check_included(const std::vector<std::string>& names, const Answer& answer) {
  for (const std::string& name : names) {
    std::vector<std::string> known = {"all"};
    for (const Found& found : answer.ops)
      for (const Suggestion& suite : found.suites)
        if (std::find(known.begin(), known.end(), suite.name) == known.end())
          known.push_back(suite.name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      base::misuse("cli", "--include '" + name.substr(0, 80) +
                              "' is not a suite of this model: it has " + base::list_of(known));
  }
}

Found find(const SizeSource& source, const spec::Op& op, const SuggestShapesOptions& options) {
  Found found{&op, suggestions(source, op, nullptr), {}};
  found.chosen = chosen_sizes(found.suites);
  // Further suites that --include names join the chosen sizes.
  for (const Suggestion& suite : found.suites)
    for (const std::string& name : options.include)
      if (name == suite.name || name == "all")
        for (const auto& dims : suite.sizes)
          if (std::find(found.chosen.begin(), found.chosen.end(), dims) == found.chosen.end())
            found.chosen.push_back(dims);
  return found;
}

// Of an op that models have sizes of, before that of another.
const std::string& why_none(const Answer& answer) {
  for (const auto& [op, why] : answer.skipped)
    if (kernels::find_op(op).of_model) return why;
  return answer.skipped.front().second;
}

// Every op that the sources say something of; with --op that one, or its error.
Answer answer(const SizeSource& source, const SuggestShapesOptions& options) {
  Answer result;
  if (!options.op.empty()) {
    result.ops.push_back(find(source, kernels::find_op(options.op), options));
    return result;
  }
  for (const spec::Op& op : kernels::all_ops()) try {
      result.ops.push_back(find(source, op, options));
    } catch (const base::Error& error) {
      result.skipped.emplace_back(op.name, error.what());
    }
  if (result.ops.empty()) throw base::Error(why_none(result), 2);
  return result;
}

Json sizes_json(const spec::Op& op, const std::vector<spec::Dims>& sizes) {
  Json result = Json::array();
  for (const auto& dims : sizes) {
    Json one;
    for (const auto& name : op.dim_names()) one[name] = dims.at(name);
    result.push_back(one);
  }
  return result;
}

Json model_json(const SizeSource& source, const SuggestShapesOptions& options) {
  if (!source.config) return nullptr;
  return {{"id", options.sizes.model.model_id},
          {"config", source.file.path.string()},
          {"commit", source.file.commit},
          {"model_type", source.config->model_type()}};
}

Json whole_json(const SizeSource& source, const Answer& found,
                const SuggestShapesOptions& options) {
  Json result = {
      {"model", model_json(source, options)}, {"ops", Json::object()}, {"skipped", Json::object()}};
  for (const Found& of_op : found.ops) {
    Json suites = Json::array();
    for (const Suggestion& suite : of_op.suites)
      suites.push_back({{"name", suite.name},
                        {"reason", suite.reason},
                        {"sizes", sizes_json(*of_op.op, suite.sizes)}});
    result["ops"][of_op.op->name] = {{"sizes", sizes_json(*of_op.op, of_op.chosen)},
                                     {"suites", suites}};
  }
  for (const auto& [op, why] : found.skipped) result["skipped"][op] = why;
  return result;
}

std::string table(const Answer& found) {
  std::vector<std::vector<std::string>> rows = {{"op", "suite", "size", "taken", "why"}};
  for (const Found& of_op : found.ops)
    for (const Suggestion& suite : of_op.suites)
      for (const auto& dims : suite.sizes) {
        const auto& chosen = of_op.chosen;
        const bool taken = std::find(chosen.begin(), chosen.end(), dims) != chosen.end();
        rows.push_back(
            {of_op.op->name, suite.name, dims.text(), taken ? "yes" : "no", suite.reason});
      }
  return table_text(rows);
}

void suggest_shapes(const SuggestShapesOptions& options) {
  std::atomic<bool> cancelled{false};
  const SignalWatch signals([&] { cancelled = true; });
  const SizeSource source = open_sizes(options.sizes, false, &cancelled);
  const Answer found = answer(source, options);
  check_included(options.include, found);
  const std::string text = whole_json(source, found, options).dump(2, ' ', true) + "\n";
  if (!options.output.empty()) base::write_file_atomically(options.output, text, "cli");
  print(options.json ? text : table(found));
  if (options.json) return;
  for (const auto& [op, why] : found.skipped)
    std::fprintf(stderr, "no sizes for %s: %s\n", op.c_str(), why.c_str());
  if (!options.output.empty())
    std::fprintf(stderr, "Next: %s run --op %s --shapes %s --out runs/NAME\n", command().c_str(),
                 found.ops.front().op->name.c_str(), options.output.c_str());
}

}  // namespace

void add_suggest_shapes(CLI::App& app) {
  auto options = std::make_shared<SuggestShapesOptions>();
  CLI::App* verb = app.add_subcommand("suggest-shapes",
                                      "The problem sizes of a model, or of what a program called");
  verb->add_option("--op", options->op,
                   "One operator; left out: each that the model has sizes for");
  verb->add_option("--include", options->include,
                   "Further suites to take by name (latent, q_norm, routed, ...), or all");
  verb->add_option("--output", options->output, "Write a file that kd run --shapes takes");
  verb->add_flag("--json", options->json, "Print that file instead of a table");
  add_size_options(*verb, options->sizes);
  verb->callback([options] { suggest_shapes(*options); });
}

}  // namespace mlx_kd::cli
