// A decoder layer's step of decoding by the operators of the runtime: attention with its cache,
// then the feed-forward part.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "mlx/array.h"

namespace mlx_kd::python {

struct Linear {
  mlx::core::array weight;
  std::optional<mlx::core::array> scales, biases, bias;

  bool has_format_of(const Linear& other) const {
    return scales.has_value() == other.scales.has_value() &&
           biases.has_value() == other.biases.has_value() &&
           (!scales || (scales->dtype() == other.scales->dtype() &&
                        scales->shape(-1) == other.scales->shape(-1)));
  }
};

struct Rotation {
  std::optional<mlx::core::array> freqs;
  double base = 10000, scale = 1;
  int64_t dims = 0;
  int64_t traditional = 0;
};

// Of a layer whose gate, up and down are those of all experts, [experts, rows, columns].
struct Experts {
  Linear router;
  int64_t top, scoring, normalise;  // as the operator `router` has them
};

// All that a step reads of a layer. q, k and v have one format, gate and up too, without a bias.
struct DecoderLayer {
  Linear q, k, v, out, gate, up, down;
  mlx::core::array attention_norm, mlp_norm;
  std::optional<mlx::core::array> q_norm, k_norm;
  Rotation rotation;
  double attention_eps, mlp_eps, head_eps, scale;
  int heads, kv_heads, activation;
  std::optional<Experts> experts = std::nullopt;
};

// Keys and values [B, heads, room, D] with room for more positions than `offset`.
struct LayerCache {
  mlx::core::array keys, values;
  int offset;

  bool has_room(const mlx::core::array& x) const {
    return keys.ndim() == 4 && values.ndim() == 4 && keys.shape(0) == x.shape(0) && offset >= 0 &&
           offset < keys.shape(2) && keys.dtype() == x.dtype() && values.dtype() == x.dtype();
  }
};

// The layer's result for one position, [B, 1, width] as x; the cache is one position longer. On a
// GPU one operation of MLX's graph where every operator runs one of our kernels; layers of the same
// shapes and numbers that follow one another share what is made for it. `layer` tells layers apart.
mlx::core::array decode_one(const void* layer, const DecoderLayer& of, const mlx::core::array& x,
                            LayerCache& cache);

}  // namespace mlx_kd::python
