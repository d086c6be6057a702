#include <deque>

#include "mlx_kd/python/bindings.h"
#include "mlx_kd/runtime/wire/grpc_tensor.h"
#include "mlx_kd/runtime/wire/message.h"

namespace mlx_kd::python {
namespace {

namespace wire = runtime::wire;

[[noreturn]] void refuse(const std::string& what) {
  throw base::Error("[wire] " + what, 2);
}

// The memory of a Python object, as long as this lives.
class Memory {
 public:
  Memory(nb::handle object, int flags) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, flags) != 0) throw nb::python_error();
  }
  ~Memory() { PyBuffer_Release(&buffer_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(buffer_.buf); }
  int64_t size() const { return static_cast<int64_t>(buffer_.len); }
  wire::Bytes bytes() const { return {data(), static_cast<size_t>(size())}; }

 private:
  Py_buffer buffer_ = {};
};

// Python's messages as those of the wire. Arrays are kept alive here and were evaluated before.
class Packer {
 public:
  void add(const nb::tuple& message) {
    const auto type = nb::cast<std::string>(message[0]);
    if (type == "header")
      wire::write(writer, wire::Header{text(message[1]), text(message[2]), number(message[3]),
                                       text(message[4]), number(message[5])});
    else if (type == "request")
      wire::write(writer, wire::PrefillRequest{text(message[1]), text(message[2]),
                                               nb::cast<std::vector<int64_t>>(message[3]),
                                               number(message[4])});
    else
      wire::write(writer, other(type, message));
  }

  wire::Writer writer;

 private:
  static std::string text(nb::handle value) { return nb::cast<std::string>(value); }
  static int64_t number(nb::handle value) { return nb::cast<int64_t>(value); }

  wire::Message other(const std::string& type, const nb::tuple& message) {
    if (type == "kv_chunk")
      return wire::KVChunk{number(message[1]), by_token(message[2]), by_token(message[3])};
    if (type == "arrays_state") {
      wire::ArraysState state{number(message[1]), {}};
      for (const nb::handle one : nb::cast<nb::list>(message[2]))
        state.arrays.push_back(tensor(one));
      return state;
    }
    if (type == "mlx_kd.cache")
      return wire::CacheState{number(message[1]), text(message[2]), state_of(message[3])};
    if (type == "done") return wire::Done{number(message[1])};
    return wire::ErrorMessage{number(message[1]), text(message[2])};
  }

  wire::Tensor tensor(nb::handle value) {
    arrays_.push_back(nb::cast<mx::array>(value));
    return wire::tensor_of(arrays_.back());
  }

  // [1, heads, tokens, width] as (tokens, heads, width), where it lies.
  wire::Tensor by_token(nb::handle value) {
    const wire::Tensor whole = tensor(value);
    if (whole.shape.size() != 4 || whole.shape[0] != 1)
      refuse("keys and values of a kv_chunk have the axes (1, heads, tokens, width)");
    return wire::with_axes(whole, {2, 1, 3});
  }

  wire::State state_of(nb::handle value) {
    if (value.is_none()) return {};
    if (nb::isinstance<bool>(value)) return nb::cast<bool>(value);
    if (nb::isinstance<int>(value)) return nb::cast<int64_t>(value);
    if (nb::isinstance<float>(value)) return nb::cast<double>(value);
    if (nb::isinstance<nb::str>(value)) return text(value);
    if (nb::isinstance<mx::array>(value)) return tensor(value);
    if (!nb::isinstance<nb::list>(value) && !nb::isinstance<nb::tuple>(value))
      refuse(
          "a cache's state has something that is not sent: it may hold arrays, "
          "numbers, texts, None and lists of these");
    std::vector<wire::State> states;
    for (const nb::handle one : value) states.push_back(state_of(one));
    return states;
  }

  std::deque<mx::array> arrays_;
};

nb::object pack(const nb::list& messages, const nb::object& into) {
  Packer packer;
  for (const nb::handle one : messages) packer.add(nb::cast<nb::tuple>(one));
  const int64_t size = packer.writer.size();
  const auto write_to = [&](std::byte* to) {
    nb::gil_scoped_release unlocked;
    packer.writer.write_to(to);
  };
  if (into.is_none()) {
    nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, size));
    if (!bytes.is_valid()) throw nb::python_error();
    write_to(reinterpret_cast<std::byte*>(PyBytes_AsString(bytes.ptr())));
    return bytes;
  }
  const Memory memory(into, PyBUF_WRITABLE);
  if (memory.size() < size)
    refuse("the frames have " + std::to_string(size) + " bytes, and the buffer has " +
           std::to_string(memory.size()) + ": give a larger one");
  write_to(memory.data());
  return nb::int_(size);
}

wire::Limits limits_of(const std::map<std::string, int64_t>& given) {
  wire::Limits limits;
  for (const auto& [name, value] : given) {
    int64_t* const field = name == "frame_bytes" ? &limits.frame_bytes
                           : name == "items"     ? &limits.items
                           : name == "layers"    ? &limits.layers
                           : name == "axes"      ? &limits.axes
                                                 : nullptr;
    if (!field || value < 1)
      refuse("the limit '" + name + "' of " + std::to_string(value) +
             ": limits are frame_bytes, items, layers and axes, each at least 1");
    *field = value;
  }
  return limits;
}

nb::object value_of(const wire::Tensor& tensor) {
  nb::gil_scoped_release unlocked;
  mx::array array = wire::to_array(tensor);
  nb::gil_scoped_acquire locked;
  return nb::cast(std::move(array));
}

nb::object value_of(const wire::State& state) {
  struct Reader {
    nb::object operator()(std::monostate) const { return nb::none(); }
    nb::object operator()(bool value) const { return nb::bool_(value); }
    nb::object operator()(int64_t value) const { return nb::int_(value); }
    nb::object operator()(double value) const { return nb::float_(value); }
    nb::object operator()(const std::string& value) const { return nb::cast(value); }
    nb::object operator()(const wire::Tensor& value) const { return value_of(value); }
    nb::object operator()(const std::vector<wire::State>& values) const {
      nb::list list;
      for (const wire::State& one : values) list.append(value_of(one));
      return list;
    }
  };
  return std::visit(Reader(), static_cast<const wire::AnyState&>(state));
}

// (tokens, heads, width) as [1, heads, tokens, width].
nb::object by_head(const wire::Tensor& tensor) {
  wire::Tensor turned = wire::with_axes(tensor, {1, 0, 2});
  turned.shape.insert(turned.shape.begin(), 1);
  turned.strides.insert(turned.strides.begin(), 0);
  return value_of(turned);
}

struct MessageReader {
  nb::tuple operator()(const wire::KVChunk& chunk) const {
    return nb::make_tuple("kv_chunk", chunk.layer_idx, by_head(chunk.keys), by_head(chunk.values));
  }
  nb::tuple operator()(const wire::ArraysState& state) const {
    nb::list arrays;
    for (const wire::Tensor& one : state.arrays) arrays.append(value_of(one));
    return nb::make_tuple("arrays_state", state.layer_idx, arrays);
  }
  nb::tuple operator()(const wire::CacheState& cache) const {
    return nb::make_tuple("mlx_kd.cache", cache.layer_idx, cache.cls, value_of(cache.state));
  }
  nb::tuple operator()(const wire::Done& done) const {
    return nb::make_tuple("done", done.total_tokens);
  }
  nb::tuple operator()(const wire::ErrorMessage& error) const {
    return nb::make_tuple("error", error.code, error.message);
  }
};

using GivenLimits = std::map<std::string, int64_t>;

nb::tuple read(const nb::object& payload, const std::string& kind, const GivenLimits& given,
               const std::string& frame) {
  const Memory memory(payload, PyBUF_SIMPLE);
  const wire::Limits limits = limits_of(given);
  if (kind == "header") {
    const wire::Header one = wire::read_header(memory.bytes(), limits, frame);
    return nb::make_tuple("header", one.request_id, one.model_id, one.num_layers, one.dtype,
                          one.start_pos);
  }
  if (kind == "request") {
    const wire::PrefillRequest one = wire::read_request(memory.bytes(), limits, frame);
    return nb::make_tuple("request", one.request_id, one.model_id, one.token_ids, one.start_pos);
  }
  return std::visit(MessageReader(), wire::read_message(memory.bytes(), limits, frame));
}

}  // namespace

void add_wire(nb::module_& m) {
  using namespace nb::literals;
  m.def("wire_pack", &pack, "messages"_a, "into"_a = nb::none(),
        nb::sig("def wire_pack(messages: list[tuple[typing.Any, ...]], into: typing.Any = None) -> "
                "typing.Any"),
        "Frames of evaluated arrays: bytes, or how many were written into a buffer. For "
        ":mod:`mlx_kd.wire`.");
  m.def(
      "wire_frame_length",
      [](const nb::object& first, const GivenLimits& given, const std::string& frame) {
        return wire::frame_length(Memory(first, PyBUF_SIMPLE).bytes(), limits_of(given), frame);
      },
      "first"_a, "limits"_a, "frame"_a,
      nb::sig(
          "def wire_frame_length(first: typing.Any, limits: dict[str, int], frame: str) -> int"),
      "The length of a frame from its first four bytes.");
  m.def("wire_read", &read, "payload"_a, "kind"_a, "limits"_a, "frame"_a,
        nb::sig("def wire_read(payload: typing.Any, kind: str, limits: dict[str, int], frame: str) "
                "-> tuple[typing.Any, ...]"),
        "A frame's payload as a tuple: its type, then its fields. `kind` is ``header``, "
        "``request`` or ``message``.");
  m.def(
      "wire_grpc_pack",
      [](mx::array array) {
        const std::string text = wire::write_grpc_tensor(wire::tensor_of(array));
        return nb::bytes(text.data(), text.size());
      },
      "array"_a, "exo's older message Tensor.");
  m.def(
      "wire_grpc_unpack",
      [](const nb::object& message, const GivenLimits& given) {
        const Memory memory(message, PyBUF_SIMPLE);
        return value_of(wire::read_grpc_tensor(memory.bytes(), limits_of(given)));
      },
      "message"_a, "limits"_a,
      nb::sig("def wire_grpc_unpack(message: typing.Any, limits: dict[str, int]) -> "
              "mlx.core.array"),
      "The array of a message Tensor.");
}

}  // namespace mlx_kd::python
