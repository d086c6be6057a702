#include "mlx_kd/spec/space.h"

#include <algorithm>

namespace mlx_kd::spec {

Setting default_setting(const Space& space) {
  Setting setting;
  for (const Knob& knob : space.knobs) setting.set(knob.name, knob.values.front());
  return setting;
}

bool is_valid(const Space& space, const Setting& setting) {
  const bool known = std::all_of(space.knobs.begin(), space.knobs.end(), [&](const Knob& knob) {
    return setting.has(knob.name) && std::find(knob.values.begin(), knob.values.end(),
                                               setting.at(knob.name)) != knob.values.end();
  });
  if (!known || setting.items().size() != space.knobs.size()) return false;
  return std::all_of(space.constraints.begin(), space.constraints.end(),
                     [&](const Constraint& constraint) {
                       std::vector<int64_t> values;
                       for (const std::string& name : constraint.knobs)
                         values.push_back(setting.at(name));
                       return constraint.holds(values.data());
                     });
}

}  // namespace mlx_kd::spec
