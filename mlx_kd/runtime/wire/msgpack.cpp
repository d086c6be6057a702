#include "mlx_kd/runtime/wire/msgpack.h"

#include <cstring>
#include <limits>

#include "mlx_kd/base/error.h"

namespace mlx_kd::runtime::wire {
namespace {

constexpr int64_t kMostFrame = std::numeric_limits<uint32_t>::max();

// How many bytes the character has that begins with this byte; 0: none begins so.
int character_bytes(unsigned char first) {
  return first < 0x80   ? 1
         : first < 0xc2 ? 0
         : first < 0xe0 ? 2
         : first < 0xf0 ? 3
         : first < 0xf5 ? 4
                        : 0;
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const auto count = static_cast<size_t>(character_bytes(byte(0)));
    if (count == 0 || count > text.size() - at) return false;
    for (size_t i = 1; i < count; ++i)
      if ((byte(i) & 0xc0) != 0x80) return false;
    if (count == 3 && byte(0) == 0xe0 && byte(1) < 0xa0) return false;  // a longer form than needed
    if (count == 3 && byte(0) == 0xed && byte(1) >= 0xa0) return false;  // half of a pair
    if (count == 4 && byte(0) == 0xf0 && byte(1) < 0x90) return false;
    if (count == 4 && byte(0) == 0xf4 && byte(1) >= 0x90) return false;
    at += count;
  }
  return true;
}

class Parser {
 public:
  Parser(Bytes data, const Limits& limits, const std::string& frame)
      : data_(data), limits_(limits), frame_(frame), items_left_(limits.items) {}

  Value whole() {
    Value value = any(limits_.depth);
    if (!data_.empty()) refuse(std::to_string(data_.size()) + " bytes follow its value");
    return value;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    base::misuse("wire", frame_ + ": " + what);
  }

  Bytes take(uint64_t count) {
    if (count > data_.size())
      refuse("it ends " + std::to_string(count - data_.size()) + " bytes too early");
    const Bytes taken = data_.first(static_cast<size_t>(count));
    data_ = data_.subspan(static_cast<size_t>(count));
    return taken;
  }

  uint64_t number(int count) {
    uint64_t value = 0;
    for (const std::byte one : take(static_cast<uint64_t>(count)))
      value = value << 8 | std::to_integer<uint64_t>(one);
    return value;
  }

  std::string_view text(uint64_t count) {
    const Bytes taken = take(count);
    const std::string_view text(reinterpret_cast<const char*>(taken.data()), taken.size());
    if (!is_utf8(text)) refuse("a text is not UTF-8");
    return text;
  }

  // Each value takes a byte at least, so a count beyond what is left is refused before all else.
  size_t count_of(uint64_t count, uint64_t values_each, int depth) {
    if (depth <= 0)
      refuse("lists and maps are nested more than " + std::to_string(limits_.depth) + " deep");
    if (count > data_.size() / values_each)
      refuse("it announces " + std::to_string(count) + " items, and " +
             std::to_string(data_.size()) + " bytes are left");
    items_left_ -= static_cast<int64_t>(count);
    if (items_left_ < 0) refuse("it has more than " + std::to_string(limits_.items) + " values");
    return static_cast<size_t>(count);
  }

  Value list(uint64_t count, int depth) {
    List values;
    const size_t all = count_of(count, 1, depth);
    for (size_t i = 0; i < all; ++i) values.push_back(any(depth - 1));
    return values;
  }

  Value map(uint64_t count, int depth) {
    Map fields;
    const size_t all = count_of(count, 2, depth);
    if (all > 64) refuse("a map has " + std::to_string(all) + " fields; 64 are the most");
    for (size_t i = 0; i < all; ++i) {
      const Value key = any(0);
      const auto* name = std::get_if<std::string_view>(&key);
      if (!name) refuse("a field's name is not a text");
      for (const auto& [other, value] : fields)
        if (other == *name) refuse("it has the field '" + std::string(*name) + "' twice");
      fields.emplace_back(*name, any(depth - 1));
    }
    return fields;
  }

  Value unsigned_integer(int count) {
    const uint64_t value = number(count);
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      refuse("the number " + std::to_string(value) + " is above 2^63 - 1");
    return static_cast<int64_t>(value);
  }

  template <class Number, class Bits>
  Value real() {
    const auto bits = static_cast<Bits>(number(sizeof(Bits)));
    Number value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<double>(value);
  }

  Value any(int depth) {
    const auto code = static_cast<uint8_t>(number(1));
    if (code < 0x80) return int64_t(code);
    if (code < 0x90) return map(code & 0x0f, depth);
    if (code < 0xa0) return list(code & 0x0f, depth);
    if (code < 0xc0) return text(code & 0x1f);
    if (code >= 0xe0) return int64_t(static_cast<int8_t>(code));
    return coded(code, depth);
  }

  // In two's complement.
  int64_t signed_integer(int bytes) {
    const int above = 64 - 8 * bytes;
    return static_cast<int64_t>(number(bytes) << above) >> above;
  }

  Value coded(uint8_t code, int depth) {
    switch (code) {
      case 0xc0:
        return std::monostate();
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return take(number(1 << (code - 0xc4)));
      case 0xca:
        return real<float, uint32_t>();
      case 0xcb:
        return real<double, uint64_t>();
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return unsigned_integer(1 << (code - 0xcc));
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return signed_integer(1 << (code - 0xd0));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text(number(1 << (code - 0xd9)));
      case 0xdc:
      case 0xdd:
        return list(number(code == 0xdc ? 2 : 4), depth);
      case 0xde:
      case 0xdf:
        return map(number(code == 0xde ? 2 : 4), depth);
      default:
        refuse("it holds the code " + std::to_string(code) + ", which frames do not use");
    }
  }

  Bytes data_;
  const Limits& limits_;
  const std::string& frame_;
  int64_t items_left_;
};

}  // namespace

Value parse(Bytes data, const Limits& limits, const std::string& frame) {
  return Parser(data, limits, frame).whole();
}

void Writer::raw(std::string_view text) {
  texts_ += text;
  size_ += static_cast<int64_t>(text.size());
}

void Writer::number(uint8_t code, uint64_t value, int count) {
  char bytes[9] = {static_cast<char>(code)};
  for (int i = 0; i < count; ++i)
    bytes[1 + i] = static_cast<char>(value >> (8 * (count - 1 - i)) & 0xff);
  raw({bytes, static_cast<size_t>(1 + count)});
}

// Codes of one, two and four bytes follow each other from first_code on.
void Writer::head(uint8_t small, size_t most_small, size_t count, int first_code,
                  bool has_byte_form) {
  const auto code = static_cast<uint8_t>(first_code);
  if (count <= most_small && small != 0)
    number(static_cast<uint8_t>(small | count), 0, 0);
  else if (has_byte_form && count <= 0xff)
    number(code, count, 1);
  else if (count <= 0xffff)
    number(static_cast<uint8_t>(code + (has_byte_form ? 1 : 0)), count, 2);
  else if (count <= static_cast<size_t>(kMostFrame))
    number(static_cast<uint8_t>(code + (has_byte_form ? 2 : 1)), count, 4);
  else
    base::misuse("wire", std::to_string(count) +
                             " bytes or items in one piece: a frame holds less than 4 GiB; send "
                             "fewer tokens at once");
}

void Writer::map(size_t fields) {
  head(0x80, 15, fields, 0xde, false);
}

void Writer::list(size_t items) {
  head(0x90, 15, items, 0xdc, false);
}

void Writer::text(std::string_view value) {
  head(0xa0, 31, value.size(), 0xd9, true);
  raw(value);
}

void Writer::integer(int64_t value) {
  const auto bits = static_cast<uint64_t>(value);
  if (value >= -32 && value < 128) return number(static_cast<uint8_t>(value), 0, 0);
  if (value >= 0) {
    const int size = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffffll ? 2 : 3;
    return number(static_cast<uint8_t>(0xcc + size), bits, 1 << size);
  }
  const int size = value >= INT8_MIN ? 0 : value >= INT16_MIN ? 1 : value >= INT32_MIN ? 2 : 3;
  number(static_cast<uint8_t>(0xd0 + size), bits, 1 << size);
}

void Writer::real(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  number(0xcb, bits, 8);
}

void Writer::boolean(bool value) {
  number(value ? 0xc3 : 0xc2, 0, 0);
}

void Writer::nothing() {
  number(0xc0, 0, 0);
}

void Writer::bytes(Tensor value) {
  const int64_t bytes = value.bytes();
  head(0, 0, static_cast<size_t>(bytes), 0xc4, true);
  size_ += bytes;
  pieces_.push_back({texts_.size(), std::move(value)});
}

void Writer::begin_frame() {
  frame_at_ = size_, frame_text_ = texts_.size();
  raw(std::string_view("\0\0\0\0", 4));
}

void Writer::end_frame() {
  const int64_t length = size_ - frame_at_ - 4;
  if (length > kMostFrame)
    base::misuse("wire", "a frame of " + std::to_string(length) +
                             " bytes: it holds less than 4 GiB; send fewer tokens at once");
  for (int i = 0; i < 4; ++i)
    texts_[frame_text_ + static_cast<size_t>(i)] = static_cast<char>(length >> (24 - 8 * i) & 0xff);
}

void Writer::write_to(std::byte* to) const {
  prefer_large_pages(to, size_);
  size_t at = 0;
  const auto write_text = [&](size_t end) {
    std::memcpy(to, texts_.data() + at, end - at);
    to += end - at, at = end;
  };
  for (const Piece& piece : pieces_) {
    write_text(piece.text_end);
    copy(piece.tensor, to);
    to += piece.tensor.bytes();
  }
  write_text(texts_.size());
}

}  // namespace mlx_kd::runtime::wire
