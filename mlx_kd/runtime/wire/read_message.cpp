#include <algorithm>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/wire/message.h"

namespace mlx_kd::runtime::wire {
namespace {

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

bool is_float_name(std::string_view name) {
  return name == "bfloat16" || name == "float16" || name == "float32";
}

// The fields of a map, asked for by name and type.
class Fields {
 public:
  Fields(const Value& value, const Limits& limits, std::string frame)
      : limits_(limits), frame_(std::move(frame)) {
    map_ = std::get_if<Map>(&value);
    if (!map_) refuse("it is not a map of fields");
  }

  [[noreturn]] void refuse(const std::string& what) const {
    base::misuse("wire", frame_ + ": " + what);
  }
  const Limits& limits() const { return limits_; }
  const std::string& frame() const { return frame_; }
  void call_it(const std::string& name) { frame_ += " (" + name + ")"; }

  const Value* find(std::string_view name) const {
    for (const auto& [key, value] : *map_)
      if (key == name) return &value;
    return nullptr;
  }

  template <class Type>
  const Type& get(std::string_view name, const char* type) const {
    const Value* value = find(name);
    if (!value) refuse("the field '" + std::string(name) + "' is missing");
    const auto* typed = std::get_if<Type>(static_cast<const AnyValue*>(value));
    if (!typed) refuse("the field '" + std::string(name) + "' is not " + type);
    return *typed;
  }

  std::string text(std::string_view name, const char* if_missing = nullptr) const {
    if (if_missing && !find(name)) return if_missing;
    return std::string(get<std::string_view>(name, "a text"));
  }

  int64_t integer(std::string_view name, int64_t most) const {
    const int64_t value = get<int64_t>(name, "an integer");
    if (value < 0 || value > most)
      refuse("the field '" + std::string(name) + "' is " + std::to_string(value) +
             ": it must be 0 to " + std::to_string(most));
    return value;
  }

  int64_t integer_or(std::string_view name, int64_t most, int64_t if_missing) const {
    return find(name) ? integer(name, most) : if_missing;
  }

  int64_t layer() const { return integer("layer_idx", limits_.layers - 1); }

  std::string float_name(const char* if_missing = nullptr) const {
    std::string name = text("dtype", if_missing);
    if (!is_float_name(name))
      refuse("its dtype is '" + name + "': it must be bfloat16, float16 or float32");
    return name;
  }

  // `name` as an array of this shape, whose bytes must be exactly as many.
  Tensor array(std::string_view name, const std::string& dtype, std::vector<int64_t> shape) const {
    const Bytes data = get<Bytes>(name, "bytes");
    Tensor tensor = contiguous(dtype, {}, data.data());
    int64_t bytes = tensor.element_bytes();
    for (const int64_t length : shape) {
      if (length != 0 && bytes > limits_.frame_bytes / length)
        refuse("the array '" + std::string(name) + "' would have more than " +
               std::to_string(limits_.frame_bytes) + " bytes");
      bytes *= length;
    }
    if (bytes != static_cast<int64_t>(data.size()))
      refuse("the array '" + std::string(name) + "' has " + std::to_string(data.size()) +
             " bytes, and its shape and type need " + std::to_string(bytes));
    return contiguous(dtype, std::move(shape), data.data());
  }

 private:
  const Map* map_ = nullptr;
  const Limits& limits_;
  std::string frame_;
};

// The map dtype, shape, data.
Tensor blob(const Value& value, const Fields& message, bool floats_only) {
  Fields fields(value, message.limits(), message.frame() + ", an array");
  const std::string dtype = floats_only ? fields.float_name() : fields.text("dtype");
  if (contiguous(dtype, {}, nullptr).element_bytes() == 0)
    fields.refuse("its dtype is '" + dtype + "', which is not a type of MLX");
  const List& lengths = fields.get<List>("shape", "a list");
  if (lengths.size() > static_cast<size_t>(message.limits().axes))
    fields.refuse("it has " + std::to_string(lengths.size()) + " axes; " +
                  std::to_string(message.limits().axes) + " are the most");
  std::vector<int64_t> shape;
  for (const Value& one : lengths) {
    const auto* length = std::get_if<int64_t>(static_cast<const AnyValue*>(&one));
    if (!length || *length < 0 || *length > kMostTokens)
      fields.refuse("its shape has something that is not a length from 0 to 2^31 - 1");
    shape.push_back(*length);
  }
  return fields.array("data", dtype, std::move(shape));
}

Message read_chunk(Fields& fields) {
  KVChunk chunk;
  chunk.layer_idx = fields.layer();
  fields.call_it("kv_chunk of layer " + std::to_string(chunk.layer_idx));
  const std::vector<int64_t> shape = {fields.integer("num_tokens", kMostTokens),
                                      fields.integer("n_heads", kMostTokens),
                                      fields.integer("head_dim", kMostTokens)};
  const std::string dtype = fields.float_name();
  if (shape[0] * shape[1] == 0 || shape[2] == 0) fields.refuse("it holds no tokens");
  chunk.keys = fields.array("keys", dtype, shape);
  chunk.values = fields.array("values", dtype, shape);
  return chunk;
}

Message read_arrays(Fields& fields) {
  ArraysState state;
  state.layer_idx = fields.layer();
  fields.call_it("arrays_state of layer " + std::to_string(state.layer_idx));
  if (fields.find("arrays"))
    for (const Value& one : fields.get<List>("arrays", "a list"))
      state.arrays.push_back(blob(one, fields, true));
  return state;
}

struct StateReader {
  const Fields& fields;

  State operator()(const Value& value) const {
    return std::visit([&](const auto& one) { return of(one, value); },
                      static_cast<const AnyValue&>(value));
  }

 private:
  State of(std::monostate, const Value&) const { return {}; }
  State of(bool value, const Value&) const { return value; }
  State of(int64_t value, const Value&) const { return value; }
  State of(double value, const Value&) const { return value; }
  State of(std::string_view value, const Value&) const { return std::string(value); }
  State of(const Bytes&, const Value&) const {
    fields.refuse("its state has bytes without a shape");
  }
  State of(const Map&, const Value& whole) const { return blob(whole, fields, false); }
  State of(const List& values, const Value&) const {
    std::vector<State> states;
    for (const Value& one : values) states.push_back((*this)(one));
    return states;
  }
};

Message read_cache(Fields& fields) {
  CacheState cache;
  cache.layer_idx = fields.layer();
  fields.call_it("mlx_kd.cache of layer " + std::to_string(cache.layer_idx));
  if (const int64_t version = fields.integer("version", kMostTokens); version != 1)
    fields.refuse("its version is " + std::to_string(version) + ", and this build reads version 1");
  cache.cls = fields.text("cls");
  const Value* state = fields.find("state");
  if (!state) fields.refuse("the field 'state' is missing");
  cache.state = StateReader{fields}(*state);
  return cache;
}

}  // namespace

int64_t frame_length(Bytes first, const Limits& limits, const std::string& frame) {
  if (first.size() < 4) base::misuse("wire", frame + ": the stream ends inside its length");
  int64_t length = 0;
  for (const std::byte one : first.first(4)) length = length << 8 | std::to_integer<int64_t>(one);
  if (length > limits.frame_bytes)
    base::misuse("wire", frame + ": it has " + std::to_string(length) +
                             " bytes, and the limit is " + std::to_string(limits.frame_bytes) +
                             ": raise frame_bytes of the limits, or ask for fewer tokens at once");
  return length;
}

Header read_header(Bytes payload, const Limits& limits, const std::string& frame) {
  const Value value = parse(payload, limits, frame);
  const Fields fields(value, limits, frame + " (header)");
  if (fields.find("type")) fields.refuse("it has a type: a stream begins with a header");
  return {fields.text("request_id", ""), fields.text("model_id", ""),
          fields.integer_or("num_layers", limits.layers, 0), fields.float_name("bfloat16"),
          fields.integer_or("start_pos", kMostTokens, 0)};
}

PrefillRequest read_request(Bytes payload, const Limits& limits, const std::string& frame) {
  const Value value = parse(payload, limits, frame);
  const Fields fields(value, limits, frame + " (request)");
  PrefillRequest request{fields.text("request_id", ""),
                         fields.text("model_id", ""),
                         {},
                         fields.integer_or("start_pos", kMostTokens, 0)};
  for (const Value& one : fields.get<List>("token_ids", "a list")) {
    const auto* token = std::get_if<int64_t>(static_cast<const AnyValue*>(&one));
    if (!token || *token < 0 || *token > kMostTokens)
      fields.refuse("token_ids has something that is not an integer from 0 to 2^31 - 1");
    request.token_ids.push_back(*token);
  }
  return request;
}

Message read_message(Bytes payload, const Limits& limits, const std::string& frame) {
  const Value value = parse(payload, limits, frame);
  Fields fields(value, limits, frame);
  const std::string type = fields.text("type");
  if (type == "kv_chunk") return read_chunk(fields);
  if (type == "arrays_state") return read_arrays(fields);
  if (type == "mlx_kd.cache") return read_cache(fields);
  if (type == "done") {
    fields.call_it("done");
    return Done{fields.integer("total_tokens", kMostTokens)};
  }
  if (type == "error")
    return ErrorMessage{fields.get<int64_t>("code", "an integer"), fields.text("message")};
  fields.refuse("its type is '" + type.substr(0, 40) +
                "': it must be kv_chunk, arrays_state, mlx_kd.cache, done or error");
}

}  // namespace mlx_kd::runtime::wire
