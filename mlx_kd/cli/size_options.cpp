#include "mlx_kd/cli/size_options.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/weights.h"

namespace mlx_kd::cli {
namespace {

constexpr size_t kMostLogged = 16;  // sizes of a log that one run takes
constexpr const char* kLogged = "logged";

void note(const std::string& text, bool quiet) {
  if (!quiet) std::fprintf(stderr, "[shapes] %s\n", text.c_str());
}

shapes::ShapeLog open_log(const std::string& path, bool quiet) {
  shapes::ShapeLog log = shapes::read_shape_log(path, kernels::all_ops());
  if (const std::string damage = shapes::damage_text(log); !damage.empty())
    note(path + ": " + damage + " and left out", quiet);
  if (!log.unknown.empty())
    note(path + " also holds calls of ops that this program does not know: " +
             base::list_of(log.unknown),
         quiet);
  return log;
}

shapes::ModelFile find_model(const shapes::ModelRequest& model, bool quiet,
                             const std::atomic<bool>* cancelled) try {
  return shapes::find_config(model, shapes::hub_settings(),
                             {[&](const std::string& text) { note(text, quiet); }, cancelled});
} catch (const base::Error&) {
  if (cancelled && *cancelled) throw Exit{130};  // it was Ctrl-C, and needs no message
  throw;
}

// Which types the log has for the op, for a message.
std::string types_text(const shapes::ShapeLog& log, const std::string& op) {
  std::set<std::string> names;
  for (const auto& size : log.sizes)
    if (size.op_name == op) names.insert(spec::name_of(size.dtype));
  return names.empty() ? "" : " in that type, but in " + base::list_of(names);
}

shapes::Suggestion logged(const shapes::ShapeLog& log, const spec::Op& op,
                          const spec::Dtype* dtype) {
  const auto sizes = shapes::sizes_of(log, op.name, dtype);
  if (sizes.empty())
    base::misuse("shapes", "the shape log holds no call of op '" + op.name + "'" +
                               types_text(log, op.name) + ": choose another --op or --dtype");
  shapes::Suggestion result{kLogged, "", {}};
  uint64_t taken = 0, all = 0;
  for (const auto& size : sizes) {
    all += size.count;
    if (result.sizes.size() == kMostLogged) continue;
    taken += size.count;
    result.sizes.push_back(size.dims);
  }
  result.reason =
      "the sizes called most, " + std::to_string(taken) + " of " + std::to_string(all) + " calls";
  if (sizes.size() > kMostLogged)
    result.reason +=
        "; " + std::to_string(sizes.size() - kMostLogged) + " rarer sizes are left out";
  return result;
}

}  // namespace

void add_size_options(CLI::App& verb, SizeOptions& options) {
  const std::string group = "Sizes of a model";
  CLI::Option* const model =
      verb.add_option("--model-id", options.model.model_id,
                      "A model's folder, its config.json, or its id on the Hugging Face hub")
          ->group(group);
  verb.add_option("--decode-rows", options.decode_rows,
                  "Tokens at once when decoding (rows; batches for rope)")
      ->capture_default_str()
      ->join(',')
      ->needs(model)
      ->group(group);
  verb.add_option("--prefill", options.prefill,
                  "Tokens at once when reading a prompt, as 128,1024; left out: none")
      ->join(',')
      ->needs(model)
      ->group(group);
  verb.add_option("--revision", options.model.revision, "Branch, tag or commit of the model")
      ->capture_default_str()
      ->needs(model)
      ->group(group);
  verb.add_flag("--local-files-only", options.model.local_files_only,
                "Take the model from disk; fetch nothing")
      ->needs(model)
      ->group(group);
  verb.add_option("--shape-log", options.shape_log,
                  "A log of the sizes that a program called (docs/formats.md)")
      ->group(group);
}

SizeSource open_sizes(const SizeOptions& options, bool quiet, const std::atomic<bool>* cancelled) {
  if (!options.any())
    base::misuse("cli", "neither a model nor a shape log is named: give --model-id or --shape-log");
  SizeSource source;
  source.tokens.decode = shapes::parse_counts(options.decode_rows, "--decode-rows");
  if (!options.prefill.empty())
    source.tokens.prefill = shapes::parse_counts(options.prefill, "--prefill");
  if (!options.model.model_id.empty()) {
    source.file = find_model(options.model, quiet, cancelled);
    source.config = shapes::read_config(source.file);
    if (source.file.path.filename() == "config.json")
      shapes::check_weights(source.file.path.parent_path(), *source.config);
  }
  if (!options.shape_log.empty()) source.log = open_log(options.shape_log, quiet);
  return source;
}

std::vector<shapes::Suggestion> suggestions(const SizeSource& source, const spec::Op& op,
                                            const spec::Dtype* dtype) {
  std::vector<shapes::Suggestion> result;
  if (source.config) result = shapes::suggest(op, *source.config, source.tokens);
  if (source.log) result.push_back(logged(*source.log, op, dtype));
  return result;
}

std::vector<spec::Dims> chosen_sizes(const std::vector<shapes::Suggestion>& suggestions) {
  std::vector<spec::Dims> result;
  for (size_t i = 0; i < suggestions.size(); ++i) {
    if (i > 0 && suggestions[i].name != kLogged) continue;
    for (const auto& dims : suggestions[i].sizes)
      if (std::find(result.begin(), result.end(), dims) == result.end()) result.push_back(dims);
  }
  return result;
}

}  // namespace mlx_kd::cli
