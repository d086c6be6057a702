#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/wire/message.h"

namespace mlx_kd::runtime::wire {
namespace {

void pair(Writer& to, std::string_view name, std::string_view value) {
  to.text(name);
  to.text(value);
}

void pair(Writer& to, std::string_view name, int64_t value) {
  to.text(name);
  to.integer(value);
}

void write_array(Writer& to, const Tensor& tensor) {
  to.map(3);
  pair(to, "dtype", tensor.dtype);
  to.text("shape");
  to.list(tensor.shape.size());
  for (const int64_t length : tensor.shape) to.integer(length);
  to.text("data");
  to.bytes(tensor);
}

void write_fields(Writer& to, const KVChunk& chunk) {
  if (chunk.keys.shape.size() != 3 || chunk.keys.shape != chunk.values.shape ||
      chunk.keys.dtype != chunk.values.dtype)
    base::misuse("wire",
                 "keys and values of a kv_chunk differ in shape or type, or have not the axes "
                 "(tokens, heads, head_dim): send the cache as mlx_kd.cache");
  to.map(8);
  pair(to, "type", "kv_chunk");
  pair(to, "layer_idx", chunk.layer_idx);
  pair(to, "num_tokens", chunk.keys.shape[0]);
  pair(to, "n_heads", chunk.keys.shape[1]);
  pair(to, "head_dim", chunk.keys.shape[2]);
  pair(to, "dtype", chunk.keys.dtype);
  to.text("keys");
  to.bytes(chunk.keys);
  to.text("values");
  to.bytes(chunk.values);
}

void write_fields(Writer& to, const ArraysState& state) {
  to.map(3);
  pair(to, "type", "arrays_state");
  pair(to, "layer_idx", state.layer_idx);
  to.text("arrays");
  to.list(state.arrays.size());
  for (const Tensor& one : state.arrays) write_array(to, one);
}

struct StateWriter {
  Writer& to;

  void operator()(std::monostate) const { to.nothing(); }
  void operator()(bool value) const { to.boolean(value); }
  void operator()(int64_t value) const { to.integer(value); }
  void operator()(double value) const { to.real(value); }
  void operator()(const std::string& value) const { to.text(value); }
  void operator()(const Tensor& value) const { write_array(to, value); }
  void operator()(const std::vector<State>& values) const {
    to.list(values.size());
    for (const State& one : values) std::visit(*this, static_cast<const AnyState&>(one));
  }
};

void write_fields(Writer& to, const CacheState& cache) {
  to.map(5);
  pair(to, "type", "mlx_kd.cache");
  pair(to, "version", 1);
  pair(to, "layer_idx", cache.layer_idx);
  pair(to, "cls", cache.cls);
  to.text("state");
  std::visit(StateWriter{to}, static_cast<const AnyState&>(cache.state));
}

void write_fields(Writer& to, const Done& done) {
  to.map(2);
  pair(to, "type", "done");
  pair(to, "total_tokens", done.total_tokens);
}

void write_fields(Writer& to, const ErrorMessage& error) {
  to.map(3);
  pair(to, "type", "error");
  pair(to, "code", error.code);
  pair(to, "message", error.message);
}

}  // namespace

void write(Writer& to, const Header& header) {
  to.begin_frame();
  to.map(5);
  pair(to, "request_id", header.request_id);
  pair(to, "model_id", header.model_id);
  pair(to, "num_layers", header.num_layers);
  pair(to, "dtype", header.dtype);
  pair(to, "start_pos", header.start_pos);
  to.end_frame();
}

void write(Writer& to, const PrefillRequest& request) {
  to.begin_frame();
  to.map(4);
  pair(to, "request_id", request.request_id);
  pair(to, "model_id", request.model_id);
  to.text("token_ids");
  to.list(request.token_ids.size());
  for (const int64_t token : request.token_ids) to.integer(token);
  pair(to, "start_pos", request.start_pos);
  to.end_frame();
}

void write(Writer& to, const Message& message) {
  to.begin_frame();
  std::visit([&to](const auto& one) { write_fields(to, one); }, message);
  to.end_frame();
}

}  // namespace mlx_kd::runtime::wire
