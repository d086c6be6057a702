// A token of each row of logits, drawn as mlx-lm's samplers draw it.
//
// The operator sample_tokens does the work: on a CPU its tokens are those of mlx-lm's chain of MLX
// operators for the same key, one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// What a row is sampled with: the names, meanings and defaults of mlx_kd.sample in Python. A
// temperature of 0 takes the first of the largest log probabilities; top_p outside (0, 1), min_p of
// 0, top_k of 0 or less and xtc_probability of 0 or less are off.
struct Sampling {
  double temperature = 1, top_p = 0, min_p = 0;
  int64_t min_tokens_to_keep = 1, top_k = 0;
  double xtc_probability = 0, xtc_threshold = 0.1;
};

// Of all rows of a call.
struct SampleOptions {
  std::vector<int32_t> xtc_special_tokens = {};  // that xtc leaves in
  // uint32 [2]: the tokens of a run whose random state this is. Left out: MLX's state of this
  // thread, which goes on as MLX leaves it.
  std::optional<mlx::core::array> key = std::nullopt;
  int logprobs = 0;         // how many of the largest log probabilities are returned
  bool normalised = false;  // the logits are log probabilities, as samplers of mlx-lm get them
  bool check = false;       // evaluates the logits, and throws for rows without a distribution
};

// `token` uint32 and `logprob` float32, of the shape of logits without its last axis; `top_tokens`
// uint32 and `top_logprobs` float32 have options.logprobs as their last axis, the largest first. A
// row with NaN or +inf, or of -inf alone, has token 0 and NaN.
struct Sampled {
  mlx::core::array token, logprob, top_tokens, top_logprobs;
};

// Lazy, from logits [..., V]: all rows alike, drawn together as one call of mlx-lm's sampler draws
// them. Throws std::invalid_argument for what mlx-lm refuses (min_p, xtc_probability and
// xtc_threshold out of range, min_tokens_to_keep below 1 or above V, top_k of V or more), for a
// temperature below 0, for a key of another shape or type, and with options.check, naming the rows.
MLX_KD_API Sampled sample(const mlx::core::array& logits, const Sampling& sampling = {},
                          const SampleOptions& options = {}, mlx::core::StreamOrDevice s = {});

// Settings of its own for each row, which are drawn one after the other, as BatchGenerator draws
// requests that have samplers of their own. Throws where there is not one for each row.
MLX_KD_API Sampled sample(const mlx::core::array& logits, const std::vector<Sampling>& rows,
                          const SampleOptions& options = {}, mlx::core::StreamOrDevice s = {});

}  // namespace mlx_kd::runtime
