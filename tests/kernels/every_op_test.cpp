#include "tests/kernels/every_op.h"

#include <functional>

namespace mlx_kd::kernels {
spec::Setting random_setting(const spec::Space& space, base::Random& random) {
  for (;;) {
    spec::Setting setting;
    for (const spec::Knob& knob : space.knobs)
      setting.set(knob.name, knob.values[random.below(knob.values.size())]);
    if (spec::is_valid(space, setting)) return setting;
  }
}

void each_valid(const spec::Space& space, const std::function<void(const spec::Setting&)>& visit) {
  spec::Setting setting;
  const std::function<void(size_t)> from = [&](size_t knob) {
    if (knob == space.knobs.size()) {
      if (spec::is_valid(space, setting)) visit(setting);
      return;
    }
    for (const int64_t value : space.knobs[knob].values) {
      setting.set(space.knobs[knob].name, value);
      from(knob + 1);
    }
  };
  from(0);
}

int64_t count_valid(const spec::Space& space) {
  int64_t count = 0;
  each_valid(space, [&](const spec::Setting&) { ++count; });
  return count;
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
  std::vector<spec::Dims> sizes;
  for (const spec::Dims& given : op.edge_sizes) sizes.push_back(spec::complete(op, given));
  return sizes;
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

}  // namespace mlx_kd::kernels
