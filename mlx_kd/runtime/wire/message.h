// The frames in which a cache travels between processes: those of exo's disaggregated protocol,
// byte for byte, and one more for the caches that these cannot hold.
//
// A stream is a header, messages and a `done`; each is a frame: its length in four bytes, big end
// first, then a MessagePack map whose fields have the order below. A message begins with the field
// `type`, which is given in brackets; a header and a request have none.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "mlx_kd/runtime/wire/msgpack.h"

namespace mlx_kd::runtime::wire {

struct Header {
  std::string request_id, model_id;
  int64_t num_layers = 0;
  std::string dtype = "bfloat16";  // bfloat16, float16 or float32
  int64_t start_pos = 0;           // tokens that the receiver has already
};

// What the receiver of a cache sends first.
struct PrefillRequest {
  std::string request_id, model_id;
  std::vector<int64_t> token_ids;
  int64_t start_pos = 0;
};

// [kv_chunk] keys and values of equal shape (tokens, heads, head_dim), of one of the header's
// types. On the wire: layer_idx, num_tokens, n_heads, head_dim, dtype, keys, values.
struct KVChunk {
  int64_t layer_idx = 0;
  Tensor keys, values;
};

// [arrays_state] the arrays of a recurrent layer, each as the map dtype, shape, data.
struct ArraysState {
  int64_t layer_idx = 0;
  std::vector<Tensor> arrays;
};

// A value of a cache's state: none, a number, a text, an array, a list of these. An array is a map
// as in ArraysState, and its type is any of MLX's.
struct State;
using AnyState =
    std::variant<std::monostate, bool, int64_t, double, std::string, Tensor, std::vector<State>>;
struct State : AnyState {
  using AnyState::AnyState;
};

// [mlx_kd.cache] the extension: the class of a cache and its state. On the wire: version,
// layer_idx, cls, state. The version is 1.
struct CacheState {
  int64_t layer_idx = 0;
  std::string cls;
  State state;
};

// [done] the last message of a stream: how many tokens each kv_chunk has.
struct Done {
  int64_t total_tokens = 0;
};

// [error] in the place of `done`.
struct ErrorMessage {
  int64_t code = 0;
  std::string message;
};

using Message = std::variant<KVChunk, ArraysState, CacheState, Done, ErrorMessage>;

// Each adds a whole frame. Tensors must stay alive until Writer::write_to. base::Error (exit code
// 2) for what the frame cannot hold.
MLX_KD_API void write(Writer& to, const Header& header);
MLX_KD_API void write(Writer& to, const PrefillRequest& request);
MLX_KD_API void write(Writer& to, const Message& message);

// Where frames are named in errors: "frame 3".
// The length of a frame from its first four bytes; base::Error where it passes the limits.
MLX_KD_API int64_t frame_length(Bytes first, const Limits& limits, const std::string& frame);

// From a frame's payload, to which all tensors refer. base::Error (exit code 2), which names the
// frame, for whatever is missing, of another type, of another size or beyond the limits.
MLX_KD_API Header read_header(Bytes payload, const Limits& limits, const std::string& frame);
MLX_KD_API PrefillRequest read_request(Bytes payload, const Limits& limits,
                                       const std::string& frame);
MLX_KD_API Message read_message(Bytes payload, const Limits& limits, const std::string& frame);

}  // namespace mlx_kd::runtime::wire
