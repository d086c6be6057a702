#include "mlx_kd/kernels/routing/router/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::router {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kSmallest = 1e-30;  // below it scores are flushed, and sums of them mean nothing

// One token.
class Token {
 public:
  Token(const spec::JudgedCase& judged, std::vector<double> x, std::vector<double> correction)
      : dims_(judged.dims),
        t_(judged.t),
        scale_(judged.scalars.empty() ? 1 : static_cast<float>(judged.scalars[0])),
        x_(std::move(x)),
        correction_(std::move(correction)) {
    const auto is_nan = [](double each) { return std::isnan(each); };
    most_ = *std::max_element(x_.begin(), x_.end());
    broken_ = std::any_of(x_.begin(), x_.end(), is_nan) ||
              std::any_of(correction_.begin(), correction_.end(), is_nan) ||
              (dims_.at("scoring") != 1 && std::isinf(most_));
    if (broken_) return;
    make_scores();
    for (size_t i = 0; i < x_.size(); ++i)
      choice_.push_back(correction_.empty() ? x_[i] : scores_[i] + correction_[i]);
    if (dims_.at("groups") > 1) mask();
  }

  double of_ids(const std::vector<int64_t>& ids) const {
    std::vector<bool> taken(x_.size());
    for (const int64_t id : ids) {
      if (id < 0 || id >= std::ssize(x_) || taken[static_cast<size_t>(id)]) return kInfinite;
      taken[static_cast<size_t>(id)] = true;
    }
    if (broken_ || ambiguous_) return 0;
    double worst = 0;
    std::fill(taken.begin(), taken.end(), false);
    for (const int64_t id : ids) {
      const auto at = static_cast<size_t>(id);
      taken[at] = true;
      for (size_t i = 0; i < x_.size(); ++i)
        if (!taken[i]) worst = std::max(worst, better_by(i, at));
    }
    return worst;
  }

  double of_weights(const std::vector<int64_t>& ids, const std::vector<double>& weights) const {
    double sum = 0, worst = 0;
    for (const int64_t id : ids) {
      if (id < 0 || id >= std::ssize(x_)) return kInfinite;
      if (!broken_) sum += scores_[static_cast<size_t>(id)];
    }
    if (!broken_ && sum < kSmallest) return 0;
    const int64_t scoring = dims_.at("scoring");
    const bool normalises = dims_.at("normalise") != 0 || scoring == 2;
    const double u = scoring == 1 ? 0x1p-24 : spec::unit_roundoff(t_);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (broken_) {
        if (!std::isnan(weights[i])) return kInfinite;
        continue;
      }
      const double score = scores_[static_cast<size_t>(ids[i])];
      const double w = (normalises ? score / sum : score) * scale_;
      const double allowed = (u + 2 * off_by_ + 4 * 0x1p-24) * std::fabs(w) +
                             underflow(scoring == 1 ? spec::Dtype::float32 : t_) + kSmallest;
      const double error = std::fabs(weights[i] - w) / allowed;
      worst = std::isnan(error) ? kInfinite : std::max(worst, error);
    }
    return worst;
  }

 private:
  void make_scores() {
    double sum = 0, least = 0;
    for (const double each : x_) {
      const bool is_sigmoid = dims_.at("scoring") == 1;
      scores_.push_back(is_sigmoid ? 1 / (1 + std::exp(-each)) : std::exp(each - most_));
      sum += scores_.back();
      least = std::max(least, std::min(is_sigmoid ? std::fabs(each) : most_ - each, 90.0));
    }
    if (dims_.at("scoring") == 0)
      for (double& score : scores_) score /= sum;
    // Two roundings of what is exponentiated, at most 90 of it; 16 of the exponential, the division
    // and the sum; lambda sqrt(n) of the sum (Higham and Mary 2019, theorem 2.4).
    off_by_ = 0x1p-24 * (2 * least + 16 + 6 * std::sqrt(static_cast<double>(x_.size())));
  }

  double off_by(size_t i) const {
    if (correction_.empty()) return 0;
    return scores_[i] * off_by_ + 0x1p-23 * (scores_[i] + std::fabs(correction_[i])) + 0x1p-126;
  }

  // How much better expert i is than the one that was chosen before it.
  double better_by(size_t i, size_t chosen) const {
    const double by = choice_[i] - choice_[chosen];
    const bool is_same = x_[i] == x_[chosen] && masked_[i] == masked_[chosen] &&
                         (correction_.empty() || correction_[i] == correction_[chosen]);
    if (is_same || (masked_[i] && masked_[chosen])) return i < chosen ? kInfinite : 0;
    if (std::isnan(by) || by <= 0) return 0;
    const double allowed = (masked_[i] ? 0 : off_by(i)) + (masked_[chosen] ? 0 : off_by(chosen));
    return allowed > 0 ? by / allowed : kInfinite;
  }

  void mask() {
    const auto groups = static_cast<size_t>(dims_.at("groups")), each = x_.size() / groups;
    std::vector<std::pair<double, size_t>> order;
    double allowed = 0;
    for (size_t g = 0; g < groups; ++g) {
      std::vector<double> part;
      for (size_t i = g * each; i < (g + 1) * each; ++i) {
        part.push_back(correction_.empty() ? scores_[i] : choice_[i]);
        allowed = std::max(allowed, off_by(i) + scores_[i] * off_by_);
      }
      std::sort(part.rbegin(), part.rend());
      order.emplace_back(-part[0] - (dims_.at("group_best") == 2 ? part[1] : 0), g);
    }
    std::sort(order.begin(), order.end());
    const auto count = static_cast<size_t>(dims_.at("top_groups"));
    ambiguous_ = count < groups && order[count].first - order[count - 1].first <= 4 * allowed;
    for (size_t place = count; place < groups; ++place)
      for (size_t i = order[place].second * each; i < (order[place].second + 1) * each; ++i) {
        masked_[i] = true;
        choice_[i] = correction_.empty() ? -kInfinite : 0;
      }
  }

  const spec::Dims& dims_;
  spec::Dtype t_;
  double scale_;
  std::vector<double> x_, correction_;
  std::vector<double> scores_ = {}, choice_ = {};
  std::vector<bool> masked_ = std::vector<bool>(x_.size());
  double most_ = 0, off_by_ = 0;
  bool broken_ = false, ambiguous_ = false;
};

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t experts = judged.dims.at("E"), top = judged.dims.at("top");
  const bool has_correction = judged.dims.at("has_correction") != 0;
  const spec::Dtype type = judged.dims.at("scoring") == 1 ? spec::Dtype::float32 : judged.t;
  double of_ids = 0, of_weights = 0;
  for (int64_t token = 0; token < judged.dims.at("M"); ++token) {
    std::vector<double> x, correction, weights;
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < experts; ++i)
      x.push_back(spec::load_element(judged.inputs[0], token * experts + i, judged.t));
    if (has_correction) correction = load_all(judged.inputs[1], experts, spec::Dtype::float32);
    for (int64_t i = 0; i < top; ++i) {
      ids.push_back(spec::load_integer(judged.outputs[0], token * top + i, spec::Dtype::uint32));
      weights.push_back(spec::load_element(judged.outputs[1], token * top + i, type));
    }
    const Token judge(judged, x, correction);
    of_ids = std::max(of_ids, judge.of_ids(ids));
    of_weights = std::max(of_weights, judge.of_weights(ids, weights));
  }
  return {{"how much better an expert that was not chosen is", of_ids, 1},
          // Two roundings to the type: models round the scores, then the quotient by their sum.
          {"error of the weights", of_weights, 2}};
}

}  // namespace mlx_kd::kernels::router
