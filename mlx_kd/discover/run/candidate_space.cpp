#include "mlx_kd/discover/run/candidate_space.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

constexpr const char* kVariantKnob = "variant";

}  // namespace

CandidateSpace::CandidateSpace(const spec::Op& op, const std::vector<std::string>& languages,
                               spec::Dtype dtype, const spec::DeviceTraits& traits,
                               const spec::Dims& first_size, bool allow_approximate)
    : op_(&op), dtype_(dtype), first_size_(first_size), languages_(languages) {
  for (const spec::Variant& variant : op.variants)
    if (std::find(languages.begin(), languages.end(), variant.language) != languages.end() &&
        (allow_approximate || variant.approximate.empty()))
      parts_.push_back({&variant, variant.space(dtype, traits)});
  if (parts_.empty())
    base::misuse("discover", "op '" + op.name + "' has no kernel in the language " +
                                 base::list_of(languages) +
                                 " that this device takes: choose another --device");
  join();
}

std::string CandidateSpace::name_of(const Part& part) const {
  const spec::Variant& mine = *part.variant;
  for (const Part& other : parts_)
    if (other.variant->name == mine.name && other.variant->language != mine.language)
      return mine.language + "/" + mine.name;
  return mine.name;
}

std::string CandidateSpace::joined_name(const Part& part, const std::string& knob) const {
  return parts_.size() == 1 ? knob : name_of(part) + "." + knob;
}

void CandidateSpace::join() {
  if (parts_.size() == 1) {
    joined_ = parts_.front().space;
    return;
  }
  spec::Knob choice{
      kVariantKnob, {}, spec::KnobScale::choice, spec::KnobRole::source, "which source"};
  for (size_t i = 0; i < parts_.size(); ++i) {
    choice.values.push_back(static_cast<int64_t>(i));
    choice.labels.push_back(name_of(parts_[i]));
  }
  joined_.knobs.push_back(choice);
  for (size_t i = 0; i < parts_.size(); ++i) add_constraints_of(i);
}

void CandidateSpace::add_constraints_of(size_t index) {
  const Part& part = parts_[index];
  const auto here = static_cast<int64_t>(index);
  for (spec::Knob knob : part.space.knobs) {
    knob.name = joined_name(part, knob.name);
    const int64_t resting = knob.values.front();
    joined_.knobs.push_back(knob);
    joined_.constraints.push_back(
        {knob.name + " varies only where " + name_of(part) + " is chosen",
         {kVariantKnob, knob.name},
         [=](const int64_t* v) { return v[0] == here || v[1] == resting; }});
  }
  for (const spec::Constraint& constraint : part.space.constraints) {
    spec::Constraint joined{
        constraint.text, {kVariantKnob}, [=, holds = constraint.holds](const int64_t* v) {
          return v[0] != here || holds(v + 1);
        }};
    for (const auto& knob : constraint.knobs) joined.knobs.push_back(joined_name(part, knob));
    joined_.constraints.push_back(joined);
  }
}

const CandidateSpace::Part& CandidateSpace::part_of(const spec::Setting& point) const {
  return parts_[static_cast<size_t>(point.value_or(kVariantKnob, 0))];
}

spec::Candidate CandidateSpace::candidate(const spec::Setting& point) const {
  const Part& part = part_of(point);
  spec::Setting own;
  for (const spec::Knob& knob : part.space.knobs)
    own.set(knob.name, point.at(joined_name(part, knob.name)));
  return spec::make_candidate(*op_, *part.variant, dtype_, own, part.space, first_size_);
}

spec::Setting CandidateSpace::default_point() const {
  const auto rank = [&](const Part& part) {
    const spec::Variant& variant = *part.variant;
    const auto language = std::find(languages_.begin(), languages_.end(), variant.language);
    return std::pair(variant.suits && !variant.suits(first_size_), language);
  };
  const auto first =
      std::min_element(parts_.begin(), parts_.end(),
                       [&](const Part& a, const Part& b) { return rank(a) < rank(b); });
  spec::Setting result = spec::default_setting(joined_);
  if (parts_.size() > 1) result.set(kVariantKnob, first - parts_.begin());
  return result;
}

std::vector<std::string> CandidateSpace::variants() const {
  std::vector<std::string> names;
  for (const Part& part : parts_) names.push_back(part.variant->name);
  return names;
}

spec::Setting CandidateSpace::point(const spec::Candidate& candidate) const {
  spec::Setting result = spec::default_setting(joined_);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.variant->name != candidate.variant || part.variant->language != candidate.language)
      continue;
    if (parts_.size() > 1) result.set(kVariantKnob, static_cast<int64_t>(i));
    for (const auto& [knob, value] : candidate.knobs.items())
      result.set(joined_name(part, knob), value);
  }
  return result;
}

}  // namespace mlx_kd::discover
