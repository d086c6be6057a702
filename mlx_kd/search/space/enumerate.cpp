#include "mlx_kd/search/space/enumerate.h"

#include <algorithm>
#include <numeric>

#include "mlx_kd/base/error.h"

namespace mlx_kd::search {
namespace {

constexpr size_t kMaxKnobs = 16, kMaxValues = 256;

size_t knob_named(const spec::Space& space, const spec::Constraint& constraint,
                  const std::string& name) {
  for (size_t i = 0; i < space.knobs.size(); ++i)
    if (space.knobs[i].name == name) return i;
  base::misuse("search", "constraint '" + constraint.text + "' names knob '" + name +
                             "', which the space does not have: name one of its knobs");
}

bool asks(const Rule& rule, const int64_t* values) {
  int64_t arguments[kMaxKnobs];
  for (size_t i = 0; i < rule.knobs.size(); ++i) arguments[i] = values[rule.knobs[i]];
  return rule.constraint->holds(arguments);
}

}  // namespace

std::vector<Rule> rules_of(const spec::Space& space) {
  if (space.knobs.size() > kMaxKnobs)
    base::misuse("search", "the space has " + std::to_string(space.knobs.size()) +
                               " knobs: at most 16 can be searched");
  for (const spec::Knob& knob : space.knobs) {
    if (knob.values.empty())
      base::misuse("search", "knob '" + knob.name + "' has no value: give it at least one");
    if (knob.values.size() > kMaxValues)
      base::misuse("search", "knob '" + knob.name + "' has " + std::to_string(knob.values.size()) +
                                 " values: at most 256 can be searched");
  }
  std::vector<Rule> rules;
  for (const spec::Constraint& constraint : space.constraints) {
    if (constraint.knobs.empty() || constraint.knobs.size() > kMaxKnobs)
      base::misuse("search", "constraint '" + constraint.text + "' names " +
                                 std::to_string(constraint.knobs.size()) +
                                 " knobs: name 1 to 16 of them");
    Rule rule{&constraint, {}};
    for (const std::string& name : constraint.knobs)
      rule.knobs.push_back(knob_named(space, constraint, name));
    rules.push_back(rule);
  }
  return rules;
}

Walk::Walk(const spec::Space& space, std::vector<Rule>& rules, const EnumerateOptions& options)
    : space_(space), max_points_(std::max<uint64_t>(1, options.max_points)), random_(options.seed) {
  for (Rule& rule : rules)
    due_[*std::max_element(rule.knobs.begin(), rule.knobs.end())].push_back(&rule);
  const size_t count = space.knobs.size();
  below_[count] = 1;
  for (size_t knob = count; knob-- > 0;)
    below_[knob] = below_[knob + 1] * static_cast<double>(space.knobs[knob].values.size());
}

bool Walk::run(uint64_t max_steps) {
  steps_left_ = max_steps;
  return descend(0);
}

bool Walk::descend(size_t knob) {
  if (knob == space_.knobs.size()) {
    keep();
    return true;
  }
  const std::vector<int64_t>& values = space_.knobs[knob].values;
  for (size_t i = 0; i < values.size(); ++i) {
    if (steps_left_ == 0) return false;
    --steps_left_;
    values_[knob] = values[i];
    indices_[knob] = static_cast<uint8_t>(i);
    if (holds(knob) && !descend(knob + 1)) return false;
  }
  return true;
}

bool Walk::holds(size_t knob) {
  for (Rule* rule : due_[knob])
    if (!asks(*rule, values_.data())) {
      rule->removed += below_[knob + 1];
      return false;
    }
  return true;
}

void Walk::keep() {
  const size_t width = space_.knobs.size();
  ++valid_;
  if (valid_ <= max_points_) {
    rows_.insert(rows_.end(), indices_.begin(), indices_.begin() + static_cast<long>(width));
    return;
  }
  const uint64_t place = random_.below(valid_);
  if (place < max_points_)
    std::copy_n(indices_.begin(), width, rows_.begin() + static_cast<long>(place * width));
}

Sampler::Sampler(const spec::Space& space, std::vector<Rule>& rules, uint64_t seed)
    : space_(space), random_(seed) {
  std::vector<size_t> group_of(space.knobs.size());
  std::iota(group_of.begin(), group_of.end(), size_t{0});
  for (const Rule& rule : rules)
    for (size_t knob : rule.knobs)
      std::replace(group_of.begin(), group_of.end(), size_t{group_of[knob]},
                   size_t{group_of[rule.knobs[0]]});
  for (size_t name = 0; name < group_of.size(); ++name) {
    Group group;
    for (size_t knob = 0; knob < group_of.size(); ++knob)
      if (group_of[knob] == name) group.knobs.push_back(knob);
    for (Rule& rule : rules)
      if (group_of[rule.knobs[0]] == name) group.rules.push_back(&rule);
    if (!group.knobs.empty()) groups_.push_back(group);
  }
}

bool Sampler::draw_group(const Group& group) {
  for (size_t knob : group.knobs) {
    const std::vector<int64_t>& values = space_.knobs[knob].values;
    const uint64_t i = random_.below(values.size());
    indices_[knob] = static_cast<uint8_t>(i);
    values_[knob] = values[i];
  }
  for (Rule* rule : group.rules)
    if (!asks(*rule, values_.data())) {
      rule->removed += 1;
      return false;
    }
  return true;
}

std::vector<uint8_t> Sampler::draw(uint64_t count, uint64_t max_draws) {
  std::vector<uint8_t> rows;
  for (uint64_t point = 0; point < count; ++point) {
    for (const Group& group : groups_) do {
        if (max_draws-- == 0) return rows;
      } while (!draw_group(group));
    rows.insert(rows.end(), indices_.begin(),
                indices_.begin() + static_cast<long>(space_.knobs.size()));
  }
  return rows;
}

double Sampler::valid_share(uint64_t draws) {
  double share = 1;
  for (const Group& group : groups_) {
    uint64_t hits = 0;
    for (uint64_t i = 0; i < draws; ++i) hits += draw_group(group);
    share *= static_cast<double>(hits) / static_cast<double>(draws);
  }
  return share;
}

}  // namespace mlx_kd::search
