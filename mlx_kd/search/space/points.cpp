#include "mlx_kd/search/space/points.h"

#include <algorithm>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/search/space/enumerate.h"

namespace mlx_kd::search {
namespace {

constexpr uint64_t kWalkSteps = 250'000'000;  // a few seconds
constexpr uint64_t kProbeDraws = 4096, kMaxDraws = 100'000'000;

[[noreturn]] void nothing_valid(const std::vector<Rule>& rules, const std::string& how) {
  const auto worst = std::max_element(rules.begin(), rules.end(), [](const Rule& a, const Rule& b) {
    return a.removed < b.removed;
  });
  base::misuse("search", "no point of the space is valid (" + how + "); constraint '" +
                             worst->constraint->text +
                             "' rules out the most: relax it or give its knobs other values");
}

// Whether walking through all valid points is out of the question.
bool too_large(const Points& points, Sampler& sampler) {
  const double raw = points.raw_size();
  return raw > kWalkSteps && raw * sampler.valid_share(kProbeDraws) > 2.0 * kWalkSteps;
}

}  // namespace

Points::Points(const spec::Space& space) : space_(space), stride_(space.knobs.size()) {
  for (const spec::Knob& knob : space.knobs) raw_size_ *= static_cast<double>(knob.values.size());
}

Points Points::enumerate(const spec::Space& space, const EnumerateOptions& options) {
  std::vector<Rule> rules = rules_of(space);
  Points points(space);
  Sampler sampler(space, rules, options.seed);
  if (!too_large(points, sampler)) {
    for (Rule& rule : rules) rule.removed = 0;
    Walk walk(space, rules, options);
    if (walk.run(kWalkSteps)) {
      if (walk.valid() == 0) nothing_valid(rules, "all were tried");
      points.adopt(walk.take_rows(), walk.valid() > options.max_points);
      return points;
    }
  }
  std::vector<uint8_t> rows = sampler.draw(std::max<uint64_t>(1, options.max_points), kMaxDraws);
  if (rows.empty()) nothing_valid(rules, "as far as 1e8 random draws tell");
  points.adopt(std::move(rows), true);
  return points;
}

Points Points::listed(const spec::Space& space, const std::vector<Indices>& list) {
  rules_of(space);
  if (list.empty()) base::misuse("search", "the list of points is empty: list at least one");
  Points points(space);
  std::vector<uint8_t> rows;
  for (const Indices& indices : list) {
    for (size_t knob = 0; knob < points.stride_; ++knob)
      if (indices.size() != points.stride_ || indices[knob] >= space.knobs[knob].values.size())
        base::misuse("search",
                     "a listed point does not lie in the space: give one value index a knob");
    rows.insert(rows.end(), indices.begin(), indices.end());
  }
  points.adopt(std::move(rows), false);
  return points;
}

void Points::adopt(std::vector<uint8_t> rows, bool sampled) {
  sampled_ = sampled;
  if (stride_ == 0) {
    size_ = 1;
    return;
  }
  std::vector<uint32_t> order(rows.size() / stride_);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  const auto compare = [&](uint32_t a, uint32_t b) {
    return std::memcmp(&rows[a * stride_], &rows[b * stride_], stride_);
  };
  const auto less = [&](uint32_t a, uint32_t b) { return compare(a, b) < 0; };
  if (!std::is_sorted(order.begin(), order.end(), less))
    std::sort(order.begin(), order.end(), less);
  const auto same = [&](uint32_t a, uint32_t b) { return compare(a, b) == 0; };
  order.erase(std::unique(order.begin(), order.end(), same), order.end());
  size_ = order.size();
  indices_.resize(size_ * stride_);
  for (size_t i = 0; i < size_; ++i)
    std::memcpy(&indices_[i * stride_], &rows[order[i] * stride_], stride_);
}

spec::Setting Points::setting(size_t point) const {
  spec::Setting setting;
  for (size_t knob = 0; knob < stride_; ++knob)
    setting.set(space_.knobs[knob].name, space_.knobs[knob].values[value_index(point, knob)]);
  return setting;
}

size_t Points::find(const uint8_t* indices) const {
  if (stride_ == 0) return 0;
  size_t low = 0, high = size_;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (std::memcmp(row(middle), indices, stride_) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low < size_ && std::memcmp(row(low), indices, stride_) == 0 ? low : size_;
}

size_t Points::find(const Indices& indices) const {
  return indices.size() == stride_ ? find(indices.data()) : size_;
}

size_t Points::find(const spec::Setting& setting) const {
  if (setting.items().size() != stride_) return size_;
  Indices indices;
  for (const spec::Knob& knob : space_.knobs) {
    if (!setting.has(knob.name)) return size_;
    const auto at = std::find(knob.values.begin(), knob.values.end(), setting.at(knob.name));
    if (at == knob.values.end()) return size_;
    indices.push_back(static_cast<uint8_t>(at - knob.values.begin()));
  }
  return find(indices.data());
}

}  // namespace mlx_kd::search
