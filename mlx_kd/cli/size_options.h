// Sizes from a model or from a shape log, for kd suggest-shapes and kd run.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/shapes/model_sizes.h"
#include "mlx_kd/shapes/model_source.h"
#include "mlx_kd/shapes/shape_log.h"

namespace mlx_kd::cli {

struct SizeOptions {
  shapes::ModelRequest model;
  std::string decode_rows = "1,2,4", prefill;
  std::string shape_log;
  bool any() const { return !model.model_id.empty() || !shape_log.empty(); }
};

void add_size_options(CLI::App& verb, SizeOptions& options);

// What the options name, read once: the model's config, the log.
struct SizeSource {
  shapes::ModelFile file;  // empty path: no model
  std::optional<spec::ModelConfig> config;
  shapes::TokenCounts tokens;
  std::optional<shapes::ShapeLog> log;
};

// Notes (what is fetched, damaged lines) go to stderr unless quiet. Misuse where nothing is named.
SizeSource open_sizes(const SizeOptions& options, bool quiet, const std::atomic<bool>* cancelled);

// The model's suggestions, and then "logged", the sizes of the log in `dtype` (nullptr: any). At
// least one; misuse, saying what is there, where the sources hold none for the op.
std::vector<shapes::Suggestion> suggestions(const SizeSource& source, const spec::Op& op,
                                            const spec::Dtype* dtype);

// The sizes that a run takes by itself: the model's first suggestion and those of the log, each
// once.
std::vector<spec::Dims> chosen_sizes(const std::vector<shapes::Suggestion>& suggestions);

}  // namespace mlx_kd::cli
