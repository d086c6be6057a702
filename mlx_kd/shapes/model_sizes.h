// Problem sizes of an op from a model's config: what kd suggest-shapes and kd run --model-id use.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::shapes {

// How many tokens go through at once: one a sequence when decoding, so that these are batch sizes
// too, and many when a prompt is read.
struct TokenCounts {
  std::vector<int64_t> decode = {1, 2, 4};
  std::vector<int64_t> prefill;
};

// "1,2,4": at least one, each once, in order. Misuse, naming `option`, for anything but integers
// from 1 to 2^31.
std::vector<int64_t> parse_counts(const std::string& text, const std::string& option);

struct Suggestion {
  std::string name;               // "model" for the first, which a run takes by itself
  std::string reason;             // which fields, and where in the model
  std::vector<spec::Dims> sizes;  // complete, each once; never empty
};

// At least one. Misuse where the op says nothing of models, the config lacks what it needs, or a
// size is beyond what an op may have (kMaxBytes).
std::vector<Suggestion> suggest(const spec::Op& op, const spec::ModelConfig& config,
                                const TokenCounts& tokens);

}  // namespace mlx_kd::shapes
