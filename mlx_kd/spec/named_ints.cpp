#include "mlx_kd/spec/named_ints.h"

#include <algorithm>
#include <charconv>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

NamedInts::Item parse_item(std::string_view item, std::string_view whole) {
  const size_t equals = item.find('=');
  int64_t value = 0;
  const char* end = item.data() + item.size();
  const bool split = equals != std::string_view::npos && equals > 0;
  const auto [stop, error] = split
                                 ? std::from_chars(item.data() + equals + 1, end, value)
                                 : std::from_chars_result{item.data(), std::errc::invalid_argument};
  if (error == std::errc::result_out_of_range)
    base::misuse("spec", "'" + std::string(item) + "' does not fit 64 bits: give a smaller number");
  if (error != std::errc() || stop != end)
    base::misuse("spec", "'" + std::string(whole) +
                             "' is not a list of name=integer: write for example rows=1,D=4096");
  return {std::string(item.substr(0, equals)), value};
}

}  // namespace

const NamedInts::Item* NamedInts::find(std::string_view name) const {
  for (const Item& item : items_)
    if (item.first == name) return &item;
  return nullptr;
}

int64_t NamedInts::at(std::string_view name) const {
  if (const Item* item = find(name)) return item->second;
  base::fail("spec", "there is no '" + std::string(name) + "' in '" + text() +
                         "': this is a defect of mlx-kd, please report it");
}

int64_t NamedInts::value_or(std::string_view name, int64_t otherwise) const {
  const Item* item = find(name);
  return item ? item->second : otherwise;
}

void NamedInts::set(std::string_view name, int64_t value) {
  for (Item& item : items_)
    if (item.first == name) {
      item.second = value;
      return;
    }
  items_.emplace_back(name, value);
}

std::string NamedInts::text() const {
  std::string result;
  for (const auto& [name, value] : items_)
    result += (result.empty() ? "" : ",") + name + "=" + std::to_string(value);
  return result;
}

base::Json NamedInts::json() const {
  base::Json result = base::Json::object();
  for (const auto& [name, value] : items_) result[name] = value;
  return result;
}

NamedInts NamedInts::from_json(const base::Json& value) {
  if (!value.is_object())
    base::misuse("spec", "'" + value.dump() +
                             "' is not an object of integers: write {\"rows\": 1, \"D\": 4096}");
  NamedInts result;
  for (const auto& [name, number] : value.items()) {
    const bool fits = number.is_number_integer() &&
                      (!number.is_number_unsigned() || number.get<uint64_t>() <= INT64_MAX);
    if (!fits)
      base::misuse("spec", "'" + name + "' is " + number.dump() +
                               ", not an integer of 64 bits: write {\"rows\": 1, \"D\": 4096}");
    result.set(name, number.get<int64_t>());
  }
  return result;
}

NamedInts NamedInts::parse(std::string_view text) {
  NamedInts result;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const auto [name, value] = parse_item(text.substr(at, comma - at), text);
    if (result.has(name))
      base::misuse("spec",
                   "'" + name + "' occurs twice in '" + std::string(text) + "': give it once");
    result.set(name, value);
    at = comma + 1;
  }
  return result;
}

bool operator==(const NamedInts& a, const NamedInts& b) {
  if (a.items_.size() != b.items_.size()) return false;
  return std::all_of(a.items_.begin(), a.items_.end(), [&](const NamedInts::Item& item) {
    const auto* other = b.find(item.first);
    return other && other->second == item.second;
  });
}

}  // namespace mlx_kd::spec
