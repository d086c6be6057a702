#include "mlx_kd/shapes/sizes.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::shapes {
namespace {

using base::Json;

constexpr const char* kExample = "write [{\"rows\": 1, \"D\": 4096}], with the names of the op";
constexpr size_t kMostListed = 10000;  // sizes of one list

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void misuse_huge(const spec::Dims& given) {
  base::misuse("shapes", "the arrays of '" + given.text() +
                             "' have more than 2^47 bytes at 8 bytes "
                             "an element: give smaller sizes");
}

// a * b, or misuse where it exceeds the limit.
int64_t times(int64_t a, int64_t b, int64_t limit, const spec::Dims& given) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product) || product > limit) misuse_huge(given);
  return product;
}

// Before complete(), so that what it derives (N = rows x D) cannot overflow.
void check_values(const spec::Op& op, const spec::Dims& given) {
  int64_t product = 1;
  for (const spec::Dim& dim : op.dims) {
    const bool is_attribute = dim.kind == spec::Dim::Kind::attribute;
    if (is_attribute && !given.has(dim.name)) continue;
    const int64_t value = given.at(dim.name);
    if (value < (is_attribute ? 0 : 1))
      base::misuse("shapes", "'" + dim.name + "' is " + std::to_string(value) + " in '" +
                                 given.text() + "': it is at least " + (is_attribute ? "0" : "1"));
    if (!is_attribute) product = times(product, value, int64_t(1) << 60, given);
  }
}

void check_bytes(const spec::Op& op, const spec::Dims& given, const spec::Dims& complete) {
  int64_t bytes = 0;
  for (const auto* ports : {&op.inputs, &op.outputs})
    for (const spec::Port& port : *ports) {
      int64_t elements = 1;
      for (int64_t extent : port.shape(complete))
        elements = times(elements, extent, kMaxBytes, given);
      bytes += times(elements, 8, kMaxBytes, given);
      if (bytes > kMaxBytes) misuse_huge(given);
    }
}

spec::Dims read_size(const Json& item, const std::string& where) {
  if (!item.is_object()) base::misuse("shapes", where + " is not an object: " + kExample);
  for (const auto& [name, value] : item.items())
    if (!value.is_number_integer())
      base::misuse("shapes", where + ": '" + name.substr(0, 80) + "' is no integer: " + kExample);
  return spec::Dims::from_json(item);
}

// What kd suggest-shapes writes holds sizes of several ops.
Json sizes_of_op(const spec::Op& op, const Json& ops, const std::string& path) {
  std::vector<std::string> names;
  if (ops.is_object())
    for (const auto& [name, value] : ops.items())
      if (value.is_object() && value.contains("sizes")) names.push_back(name.substr(0, 80));
  if (!names.empty() && !has(names, op.name))
    base::misuse("shapes", path + " holds no sizes of op '" + op.name + "' but of " +
                               base::list_of(names) + ": choose one of them with --op");
  return names.empty() ? Json() : ops[op.name]["sizes"];
}

std::vector<spec::Dims> read_file(const spec::Op& op, const std::string& path) {
  const Json root =
      base::parse_json(base::read_file(path, "shapes", kMaxFileBytes), "shapes", path);
  const Json list = !root.is_object()      ? root
                    : root.contains("ops") ? sizes_of_op(op, root["ops"], path)
                                           : root.value("sizes", Json());
  if (!list.is_array() || list.empty())
    base::misuse("shapes", path + " holds no sizes: " + kExample);
  std::vector<spec::Dims> result;
  for (const Json& item : list)
    result.push_back(read_size(item, path + ", size " + std::to_string(result.size() + 1)));
  return result;
}

// What is not name=integer is the path of a file; a path may hold "=" if it ends in .json.
bool is_file(const std::string& text) {
  const std::string ending = ".json";
  return text.find('=') == text.npos ||
         (text.size() > ending.size() && text.substr(text.size() - ending.size()) == ending);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

// "rows=1|64,D=4096|8192" as the four sizes that it abbreviates, the last name varying fastest.
std::vector<std::string> without_lists(const std::string& text) {
  std::vector<std::string> result = {""};
  for (const std::string& item : split(text, ',')) {
    const size_t equals = item.find('=');
    const std::string name = item.substr(0, equals == item.npos ? 0 : equals + 1);
    std::vector<std::string> longer;
    for (const std::string& size : result)
      for (const std::string& value : split(item.substr(name.size()), '|'))
        longer.push_back(size + (size.empty() ? "" : ",") + name + value);
    if (longer.size() > kMostListed)
      base::misuse("shapes", "'" + text.substr(0, 80) + "' abbreviates more than " +
                                 std::to_string(kMostListed) + " sizes: give fewer");
    result = std::move(longer);
  }
  return result;
}

std::vector<spec::Dims> given_sizes(const spec::Op& op, const std::vector<std::string>& shapes) {
  std::vector<spec::Dims> result;
  for (const std::string& text : shapes) {
    if (!is_file(text)) {
      for (const std::string& size : without_lists(text)) result.push_back(spec::Dims::parse(size));
      continue;
    }
    const std::vector<spec::Dims> of_file = read_file(op, text);
    result.insert(result.end(), of_file.begin(), of_file.end());
  }
  return result;
}

std::vector<std::string> suite_names(const spec::Op& op) {
  std::vector<std::string> result;
  for (const spec::Suite& suite : op.suites) result.push_back(suite.name);
  return result;
}

[[noreturn]] void misuse_suite(const spec::Op& op, const std::string& suite,
                               const std::vector<spec::Op>& all_ops) {
  if (op.suites.empty())
    base::misuse("shapes", "op '" + op.name + "' has no suites: give its sizes with --shapes");
  std::vector<std::string> others;
  for (const spec::Op& other : all_ops)
    if (has(suite_names(other), suite)) others.push_back(other.name);
  const std::string where = others.empty() ? "there is no suite '" + suite + "'"
                                           : "suite '" + suite + "' is not for op '" + op.name +
                                                 "' but for " + base::list_of(others);
  base::misuse("shapes",
               where + ": suites of '" + op.name + "' are " + base::list_of(suite_names(op)));
}

const spec::Suite& find_suite(const spec::Op& op, const std::string& name,
                              const std::vector<spec::Op>& all_ops) {
  for (const spec::Suite& suite : op.suites)
    if (name.empty() || suite.name == name) return suite;
  misuse_suite(op, name, all_ops);
}

Sizes complete_sizes(const spec::Op& op, const std::string& name,
                     const std::vector<spec::Dims>& given) {
  Sizes result{name, {}};
  for (const spec::Dims& size : given) {
    const spec::Dims complete = checked_size(op, size);
    const auto& known = result.sizes;
    if (std::find(known.begin(), known.end(), complete) == known.end())
      result.sizes.push_back(complete);
  }
  return result;
}

}  // namespace

spec::Dims checked_size(const spec::Op& op, const spec::Dims& given) {
  for (const auto& [name, value] : given.items())
    if (!has(op.dim_names(), name))
      base::misuse("shapes", "'" + name.substr(0, 80) + "' is not a size of op '" + op.name +
                                 "': it takes " + base::list_of(op.dim_names()));
  std::vector<std::string> missing;
  for (const spec::Dim& dim : op.dims)
    if (dim.kind == spec::Dim::Kind::dim && !given.has(dim.name)) missing.push_back(dim.name);
  if (!missing.empty())
    base::misuse("shapes", "'" + given.text() + "' lacks " + base::list_of(missing) +
                               ": give every size of op '" + op.name + "'");
  check_values(op, given);
  spec::Dims complete = spec::complete(op, given);
  check_bytes(op, given, complete);
  return complete;
}

Sizes sizes_from(const spec::Op& op, const std::string& suite,
                 const std::vector<std::string>& shapes, const std::vector<spec::Op>& all_ops) {
  if (!suite.empty() && !shapes.empty())
    base::misuse("shapes", "both a suite ('" + suite + "') and sizes are given: choose one");
  if (!shapes.empty()) return complete_sizes(op, kCustom, given_sizes(op, shapes));
  const spec::Suite& found = find_suite(op, suite, all_ops);
  return complete_sizes(op, found.name, found.sizes);
}

}  // namespace mlx_kd::shapes
