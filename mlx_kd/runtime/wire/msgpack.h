// The part of MessagePack that frames use: a writer that copies arrays straight into the result,
// and a reader that trusts nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mlx_kd/runtime/wire/tensor.h"

namespace mlx_kd::runtime::wire {

// Collects what goes into one buffer; numbers have their shortest form. Arrays are kept as they lie
// until write_to.
class MLX_KD_API Writer {
 public:
  void map(size_t fields);
  void list(size_t items);
  void text(std::string_view value);
  void integer(int64_t value);
  void real(double value);
  void boolean(bool value);
  void nothing();
  void bytes(Tensor value);  // as a `bin`

  // A frame: its length in four bytes, big end first, goes before what is added until end_frame.
  void begin_frame();
  void end_frame();

  int64_t size() const { return size_; }
  void write_to(std::byte* to) const;  // size() bytes, in one pass over all arrays

 private:
  void head(uint8_t small, size_t most_small, size_t count, int first_code, bool has_byte_form);
  void raw(std::string_view text);
  void number(uint8_t code, uint64_t value, int count);

  struct Piece {
    size_t text_end;  // of the texts: up to here, then the tensor
    Tensor tensor;
  };
  std::string texts_;
  std::vector<Piece> pieces_;
  int64_t size_ = 0, frame_at_ = -1;
  size_t frame_text_ = 0;
};

// What is accepted of a sender: checked before memory is taken.
struct Limits {
  int64_t frame_bytes = int64_t(1) << 30;  // of one frame
  int64_t items = int64_t(1) << 20;        // values in one frame
  int64_t layers = 4096;
  int64_t axes = 8;
  int depth = 12;  // of lists and maps in each other
};

struct Value;
using Bytes = std::span<const std::byte>;
using List = std::vector<Value>;
using Map = std::vector<std::pair<std::string_view, Value>>;
using AnyValue =
    std::variant<std::monostate, bool, int64_t, double, std::string_view, Bytes, List, Map>;
struct Value : AnyValue {
  using AnyValue::AnyValue;
};

// The one value that `data` holds; it refers to data. base::Error, "[wire] <frame>: what is wrong",
// for data that is cut short, has more after the value, passes the limits or has a field twice.
MLX_KD_API Value parse(Bytes data, const Limits& limits, const std::string& frame);

}  // namespace mlx_kd::runtime::wire
