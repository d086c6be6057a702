// Caches of keys and values: the kinds of mlx_kd.cache in Python, with attention over what they
// hold.
//
// A token is written in place, in the memory of the cache, unless another array of the program
// shares it. Quantised keys and values are read as codes, pages by their table; nothing is gathered
// or dequantised. A cache, and the pages that copies share, is used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime::cache {

// What a cache keeps: contiguous all tokens, in one piece that grows; rotating the last max_size,
// in a ring, the first `keep` of all among them; quantized and quantized_rotating the same as
// codes; paged all tokens, in pages of block_size with room for max_size (4096 if that is 0), and
// quantized_paged the same as codes.
enum class Kind { contiguous, rotating, quantized, quantized_rotating, paged, quantized_paged };

struct Options {
  Kind kind = Kind::contiguous;
  int bits = 8, group_size = 64;  // of codes, by the affine rule of mx::quantize
  int max_size = 0, keep = 0;     // tokens
  int block_size = 32;
};

// A paged cache found too few free pages. The cache is as it was.
class MLX_KD_API PoolFull : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The keys and values of a layer, for a batch of sequences of equal length; of one sequence where
// they are in pages. What does not go together throws std::invalid_argument before anything is
// changed.
class MLX_KD_API Cache {
 public:
  Cache() = default;
  Cache& operator=(const Cache&) = delete;
  virtual ~Cache() = default;

  // New keys [B, H, T, Dk] and values [B, H, T, Dv] behind those that are there. Lazy.
  virtual void append(const mlx::core::array& keys, const mlx::core::array& values,
                      mlx::core::StreamOrDevice s = {}) = 0;
  // softmax(scale q k^T) v of queries [B, Hq, T, Dk] of the last T tokens, which came in one append
  // or are one token: each sees the tokens up to its own, in a ring the last max_size of them.
  // Lazy, in the type of q.
  virtual mlx::core::array attention(const mlx::core::array& q, double scale,
                                     mlx::core::StreamOrDevice s = {}) const = 0;
  // Drops the last n tokens, or all where there are fewer; how many. A ring that is full drops
  // none.
  virtual int trim(int n) = 0;
  // A cache of the same tokens. Pages are shared until one of the two writes to them.
  virtual std::unique_ptr<Cache> copy() const = 0;
  // All arrays that it holds: evaluate them to evaluate the cache.
  virtual std::vector<mlx::core::array> state() const = 0;
  // Tokens that were appended and not trimmed, those that a ring dropped included.
  virtual int offset() const = 0;
  size_t nbytes() const;

 protected:
  Cache(const Cache&) = default;
};

// One for each layer of a model. Throws std::invalid_argument for options out of their range.
MLX_KD_API std::vector<std::unique_ptr<Cache>> make(int layers, const Options& options = {});

}  // namespace mlx_kd::runtime::cache
