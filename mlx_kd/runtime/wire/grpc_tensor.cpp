#include "mlx_kd/runtime/wire/grpc_tensor.h"

#include <limits>

#include "mlx_kd/base/error.h"

namespace mlx_kd::runtime::wire {
namespace {

enum Wire { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

[[noreturn]] void refuse_tensor(const std::string& what) {
  base::misuse("wire", "message Tensor: " + what);
}

void put_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

class Proto {
 public:
  explicit Proto(Bytes data) : data_(data) {}
  bool any_left() const { return !data_.empty(); }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto one = std::to_integer<uint64_t>(take(1).front());
      value |= (one & 0x7f) << shift;
      if (one < 0x80) return value;
    }
    refuse_tensor("a number has more than ten bytes");
  }

  Bytes take(uint64_t count) {
    if (count > data_.size()) refuse_tensor("it is cut short");
    const Bytes taken = data_.first(static_cast<size_t>(count));
    data_ = data_.subspan(static_cast<size_t>(count));
    return taken;
  }

 private:
  Bytes data_;
};

void add_length(std::vector<int64_t>& shape, uint64_t value, const Limits& limits) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
    refuse_tensor("its shape has a length that is negative or above 2^31 - 1");
  if (shape.size() >= static_cast<size_t>(limits.axes))
    refuse_tensor("its shape has more than " + std::to_string(limits.axes) + " axes");
  shape.push_back(static_cast<int64_t>(value));
}

void skip(Proto& proto, int kind) {
  if (kind == kVarint)
    proto.varint();
  else if (kind == kFixed64)
    proto.take(8);
  else if (kind == kFixed32)
    proto.take(4);
  else if (kind == kLength)
    proto.take(proto.varint());
  else
    refuse_tensor("it has a field of the unknown kind " + std::to_string(kind));
}

void check_bytes(const Tensor& tensor, Bytes data, const Limits& limits) {
  int64_t bytes = tensor.element_bytes();
  if (bytes == 0)
    refuse_tensor("its dtype is '" + tensor.dtype.substr(0, 40) + "', which is not a type of MLX");
  for (const int64_t length : tensor.shape) {
    if (length != 0 && bytes > limits.frame_bytes / length)
      refuse_tensor("it would have more than " + std::to_string(limits.frame_bytes) + " bytes");
    bytes *= length;
  }
  if (bytes != static_cast<int64_t>(data.size()))
    refuse_tensor("it has " + std::to_string(data.size()) + " bytes, and its shape and type need " +
                  std::to_string(bytes));
}

}  // namespace

std::string write_grpc_tensor(const Tensor& tensor) {
  std::string shape, result;
  for (const int64_t length : tensor.shape) put_varint(shape, static_cast<uint64_t>(length));
  const int64_t bytes = tensor.bytes();
  if (bytes > 0) {  // protobuf leaves out what is empty
    result += '\x0a';
    put_varint(result, static_cast<uint64_t>(bytes));
    const size_t at = result.size();
    result.resize(at + static_cast<size_t>(bytes));
    copy(tensor, reinterpret_cast<std::byte*>(result.data() + at));
  }
  if (!shape.empty()) {
    result += '\x12';
    put_varint(result, shape.size());
    result += shape;
  }
  result += '\x1a';
  put_varint(result, tensor.dtype.size());
  return result + tensor.dtype;
}

Tensor read_grpc_tensor(Bytes message, const Limits& limits) {
  Proto proto(message);
  Bytes data;
  std::vector<int64_t> shape;
  std::string dtype;
  while (proto.any_left()) {
    const uint64_t tag = proto.varint();
    const int kind = static_cast<int>(tag & 7);
    if (tag == (1 << 3 | kLength)) {
      data = proto.take(proto.varint());
    } else if (tag == (2 << 3 | kLength)) {
      Proto packed(proto.take(proto.varint()));
      while (packed.any_left()) add_length(shape, packed.varint(), limits);
    } else if (tag == (2 << 3 | kVarint)) {
      add_length(shape, proto.varint(), limits);
    } else if (tag == (3 << 3 | kLength)) {
      const Bytes text = proto.take(proto.varint());
      dtype.assign(reinterpret_cast<const char*>(text.data()), text.size());
    } else {
      skip(proto, kind);
    }
  }
  check_bytes({dtype, shape, {}, nullptr}, data, limits);
  return contiguous(dtype, shape, data.data());
}

}  // namespace mlx_kd::runtime::wire
