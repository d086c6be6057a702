#include "mlx_kd/search/strategy/gain_outlook.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

constexpr double kFarOff = 4;  // standard deviations that nothing is expected beyond
constexpr int kHalvings = 12;  // of the range that the gain lies in

}  // namespace

void GainOutlook::saw(double value, const Prediction& belief) {
  const double off = (value - belief.mean) / belief.sd;
  surprise_ += settings_.rate * (std::min(off * off, settings_.most) - surprise_);
  widening_ = std::sqrt(std::max(1.0, surprise_));
}

// Expected number of candidates that gain more.
double GainOutlook::chance_of(double gain, double best,
                              const std::vector<Prediction>& candidates) const {
  double sum = 0;
  for (const Prediction& belief : candidates) {
    const double z = (best - gain - belief.mean) / (widening_ * belief.sd);
    if (z > -kFarOff) sum += normal_below(z);
  }
  return sum;
}

double GainOutlook::likely_gain(double best, const std::vector<Prediction>& candidates) const {
  double low = 0, high = 0;
  for (const Prediction& belief : candidates)
    high = std::max(high, best - belief.mean + kFarOff * widening_ * belief.sd);
  if (chance_of(0, best, candidates) <= settings_.doubt) return 0;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    (chance_of(middle, best, candidates) > settings_.doubt ? low : high) = middle;
  }
  return high;
}

double GainOutlook::gained_lately() const {
  return bests_.size() < 2 ? 0 : bests_[bests_.size() / 2 - 1] - bests_.back();
}

double GainOutlook::look(double best, const std::vector<Prediction>& candidates) {
  looks_.push_back(likely_gain(best, candidates));
  if (looks_.size() > settings_.steps) looks_.pop_front();
  return std::max(gained_lately(), *std::max_element(looks_.begin(), looks_.end()));
}

}  // namespace mlx_kd::search
