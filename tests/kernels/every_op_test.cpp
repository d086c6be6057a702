#include "tests/kernels/every_op.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "mlx_kd/base/error.h"

namespace mlx_kd::kernels {
namespace {

constexpr int64_t kEdges[] = {1, 2, 3, 7, 17, 34, 64, 65, 1040, 2048, 2049, 33000};
constexpr int64_t kMostElements = 1 << 18;

// Completed, if the op accepts the size and its arrays are small.
std::optional<spec::Dims> accepted(const spec::Op& op, const spec::Dims& given) {
  try {
    const spec::Dims dims = op.complete(given);
    int64_t elements = 0;
    for (const auto* ports : {&op.inputs, &op.outputs})
      for (const spec::Port& port : *ports) elements += spec::element_count(port.shape(dims));
    return elements <= kMostElements ? std::optional(dims) : std::nullopt;
  } catch (const base::Error&) {
    return std::nullopt;
  }
}

}  // namespace

spec::Setting random_setting(const spec::Space& space, base::Random& random) {
  for (;;) {
    spec::Setting setting;
    for (const spec::Knob& knob : space.knobs)
      setting.set(knob.name, knob.values[random.below(knob.values.size())]);
    if (spec::is_valid(space, setting)) return setting;
  }
}

int64_t count_valid(const spec::Space& space) {
  spec::Setting setting;
  const std::function<int64_t(size_t)> from = [&](size_t knob) -> int64_t {
    if (knob == space.knobs.size()) return spec::is_valid(space, setting);
    int64_t count = 0;
    for (const int64_t value : space.knobs[knob].values) {
      setting.set(space.knobs[knob].name, value);
      count += from(knob + 1);
    }
    return count;
  };
  return from(0);
}

const spec::Variant* variant_in(const spec::Op& op, const std::string& language) {
  for (const spec::Variant& variant : op.variants)
    if (variant.language == language) return &variant;
  return nullptr;
}

std::vector<std::string> ops_in(const std::string& language) {
  std::vector<std::string> names;
  for (const spec::Op& op : all_ops())
    if (variant_in(op, language)) names.push_back(op.name);
  return names;
}

std::vector<spec::Dims> edge_sizes(const spec::Op& op) {
  base::Random random(17);
  std::vector<spec::Dims> sizes;
  for (const std::string& name : op.dim_names)
    for (const int64_t value : kEdges)
      for (int trial = 0; trial < 20; ++trial) {
        spec::Dims given;
        for (const std::string& each : op.dim_names)
          given.set(each, each == name ? value : kEdges[random.below(std::size(kEdges))]);
        const auto size = accepted(op, given);
        if (!size) continue;
        sizes.push_back(*size);
        break;
      }
  return sizes;
}

spec::Dims special_size(const spec::Op& op) {
  spec::Dims given;
  for (const std::string& name : op.dim_names) given.set(name, given.empty() ? 7 : 74);
  return accepted(op, given).value_or(op.complete(op.suites.front().sizes.front()));
}

Texts sizes_in(const std::string& op, const std::string& suite) {
  Texts texts;
  for (const spec::Suite& each : find_op(op).suites)
    if (each.name == suite)
      for (const spec::Dims& size : each.sizes) texts.push_back(size.text());
  return texts;
}

Texts names_of(const std::vector<spec::Port>& ports) {
  Texts names;
  for (const spec::Port& port : ports) names.push_back(port.name);
  return names;
}

void expect_bytes_of_ports(const std::string& name) {
  const spec::Op& op = find_op(name);
  const spec::Dims dims = op.complete(op.suites.front().sizes.front());
  int64_t elements = 0;
  for (const auto* ports : {&op.inputs, &op.outputs})
    for (const spec::Port& port : *ports) elements += spec::element_count(port.shape(dims));
  for (spec::Dtype dtype : spec::all_dtypes())
    EXPECT_EQ(op.cost(dims, dtype).bytes, static_cast<double>(elements * spec::size_of(dtype)))
        << name;
}

}  // namespace mlx_kd::kernels
