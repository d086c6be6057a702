// What a model calls: the operators and sizes that kd tune-model spends its time on.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/shapes/dim_ranges.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::discover {

// One place of a model that calls an operator.
struct ModelUse {
  const spec::Op* op;
  std::string name;               // "<op>.<suite>": of its folder
  std::string reason;             // which fields of the config, and where in the model
  bool prompt;                    // prompts call it; else a step of decoding does
  int64_t calls;                  // of one pass, all layers together; 0: of other lengths
  std::vector<spec::Dims> sizes;  // complete; the first is the one whose time counts
  shapes::DimRanges ranges;       // that its kernel is to serve, those sizes inside
};

struct PassSizes {
  std::vector<int64_t> rows = {1, 2, 4, 8};  // tokens of a step of decoding
  int64_t prompt = 512;                      // tokens; 0: no prompts
};

// A call of a model: with the tokens of a decoding step, or with those of a prompt.
struct ModelPass {
  bool prompt;
  int64_t tokens;
};

// A step for each of `rows`, then the prompt, where there is one.
std::vector<ModelPass> passes_of(const PassSizes& sizes);

struct ModelUses {
  std::vector<ModelUse> uses;        // at least one, in the order of the operators
  std::vector<std::string> without;  // "<op>: why the config gives it no sizes"
  // Between the config and what the model's code called (take_called); why that was not run.
  std::vector<std::string> differences;
  std::string not_run;
};

// Whether the batch dim of an operator is the keys in a cache.
bool is_over_keys(const spec::Op& op);

// Keys in a cache, rising, between which pins serve all.
std::vector<int64_t> key_lengths();

// One place of a model, at the rows of steps or the tokens of a prompt, and the range of them that
// its kernel is to serve.
ModelUse use_of(const spec::Op& op, const spec::ModelSizes& place, const PassSizes& sizes,
                bool prompt);

// Where a prompt's queries have a range: the same place with 2 to 16 of them, as of short prompts
// and of several tokens that continue a cache. Neither pass calls it. nullopt for other uses.
std::optional<ModelUse> few_queries_of(const ModelUse& prompt);

// Misuse, naming the fields, where the config lacks what every model has (its width, layers, heads,
// the width of its MLP), and where no operator is called.
ModelUses uses_of(const spec::ModelConfig& config, const PassSizes& sizes);

// The type that the config states for its weights; bfloat16 where it states none.
spec::Dtype float_type_of(const spec::ModelConfig& config);

}  // namespace mlx_kd::discover
