// A short ordered list of named integers: problem sizes (Dims) and knob settings (Setting).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlx_kd/base/json.h"

namespace mlx_kd::spec {

class NamedInts {
 public:
  using Item = std::pair<std::string, int64_t>;

  NamedInts() = default;
  NamedInts(std::initializer_list<Item> items) : items_(items) {}

  bool has(std::string_view name) const { return find(name) != nullptr; }
  // Fails if there is no such name: asking for it is our mistake, so it names all that are
  // there.
  int64_t at(std::string_view name) const;
  int64_t value_or(std::string_view name, int64_t otherwise) const;
  void set(std::string_view name, int64_t value);  // replaces, or appends at the end
  const std::vector<Item>& items() const { return items_; }
  bool empty() const { return items_.empty(); }

  std::string text() const;  // "rows=1,D=4096", in order
  base::Json json() const;   // {"D": 4096, "rows": 1}
  // Misuse (room spec) unless the value is an object of integers that fit int64.
  static NamedInts from_json(const base::Json& value);
  // "rows=1,D=4096". Misuse if an item is not name=integer, a name repeats or a number overflows.
  static NamedInts parse(std::string_view text);

  // Same names with the same values, in whatever order.
  friend bool operator==(const NamedInts& a, const NamedInts& b);

 private:
  const Item* find(std::string_view name) const;
  std::vector<Item> items_;
};

using Dims = NamedInts;     // problem size: {rows: 128, D: 2048}
using Setting = NamedInts;  // knob values of one candidate: {VEC: 16, UNROLL: 4}

}  // namespace mlx_kd::spec
