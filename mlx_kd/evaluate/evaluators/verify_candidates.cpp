#include "mlx_kd/evaluate/evaluators/verify_candidates.h"

#include <algorithm>
#include <set>

#include "mlx_kd/base/random.h"

namespace mlx_kd::evaluate {
namespace {

// A space is usually dense enough; where it is not, fewer candidates come of it.
constexpr int kTriesEach = 200;

bool takes(const std::vector<std::string>& languages, const std::string& language) {
  return std::find(languages.begin(), languages.end(), language) != languages.end();
}

spec::Setting random_setting(const spec::Space& space, base::Random& random) {
  spec::Setting setting;
  for (const auto& knob : space.knobs)
    setting.set(knob.name, knob.values[random.below(knob.values.size())]);
  return setting;
}

}  // namespace

std::vector<spec::Candidate> sample_candidates(const spec::Op& op,
                                               const std::vector<std::string>& languages,
                                               const spec::DeviceTraits& traits, spec::Dtype dtype,
                                               const spec::Dims& first_size, int random_count,
                                               uint64_t seed) {
  std::vector<spec::Candidate> result;
  std::vector<const spec::Variant*> variants;
  std::set<std::string> seen;
  const auto add = [&](const spec::Variant& variant, const spec::Setting& knobs,
                       const spec::Space& space) {
    if (!seen.insert(variant.language + ":" + variant.name + ":" + knobs.text()).second)
      return false;
    result.push_back(spec::make_candidate(op, variant, dtype, knobs, space, first_size));
    return true;
  };
  for (const auto& variant : op.variants) {
    if (!takes(languages, variant.language)) continue;
    const spec::Space space = variant.space(dtype, traits);
    variants.push_back(&variant);
    add(variant, spec::default_setting(space), space);
  }
  base::Random random(seed);
  int wanted = variants.empty() ? 0 : random_count;
  for (int tries = wanted * kTriesEach; wanted > 0 && tries > 0; --tries) {
    const spec::Variant& variant = *variants[static_cast<size_t>(tries) % variants.size()];
    const spec::Space space = variant.space(dtype, traits);
    const spec::Setting knobs = random_setting(space, random);
    if (spec::is_valid(space, knobs) && add(variant, knobs, space)) --wanted;
  }
  return result;
}

}  // namespace mlx_kd::evaluate
