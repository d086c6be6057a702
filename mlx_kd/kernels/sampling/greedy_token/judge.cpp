#include "mlx_kd/kernels/sampling/greedy_token/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::greedy_token {
namespace {

using spec::Dtype;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Values of T that are tried on each side of logsumexp: as many, and as far away.
constexpr int kMostNeighbours = 4096;
constexpr double kFarthest = 64;

struct Answer {
  int64_t token;
  double logprob;
};

double rounded(double x, Dtype t) {
  uint32_t bits = 0;
  spec::store_element(&bits, 0, t, static_cast<float>(x));
  return spec::load_element(&bits, 0, t);
}

// The next value of T below or above x, which is one.
double neighbour(double x, Dtype t, double direction) {
  if (t == Dtype::float32)
    return std::nextafter(static_cast<float>(x), static_cast<float>(direction));
  int exponent = 0;
  const bool is_power = std::fabs(std::frexp(x, &exponent)) == 0.5;
  const bool towards_zero = (direction > x) != (x > 0);
  const double step =
      std::ldexp(2 * spec::unit_roundoff(t), exponent - 1) / (is_power && towards_zero ? 2 : 1);
  const double least = spec::smallest_subnormal(t);
  return rounded(x + std::copysign(x == 0 ? least : std::max(step, least), direction), t);
}

// Rows in which MLX's chain makes every log probability, or those of +inf, NaN.
bool answer_of_special(const std::vector<double>& x, Answer& answer) {
  answer = {0, std::numeric_limits<double>::quiet_NaN()};
  if (std::any_of(x.begin(), x.end(), [](double each) { return std::isnan(each); })) return true;
  const auto most = std::max_element(x.begin(), x.end());
  if (*most == kInfinity) answer.token = most - x.begin();
  return std::isinf(*most);
}

class Row {
 public:
  Row(std::vector<double> x, Dtype t) : x_(std::move(x)), t_(t) {
    most_ = *std::max_element(x_.begin(), x_.end());
    double sum = 0;
    for (const double each : x_) sum += std::exp(each - most_);
    logsumexp_ = most_ + std::log(sum);
    // 6 sqrt(n) roundings of sums of n terms (Higham and Mary 2019, theorem 2.4), in 16 partial
    // sums at least; 12 of an exponential, 2 of the logarithm, and 2 where it is added to the
    // largest logit.
    const double terms = std::sqrt(static_cast<double>(x_.size()) / 16);
    off_by_ = 0x1p-24 * (6 * terms + 12 + 2 * std::log(sum) + 2 * std::fabs(logsumexp_));
  }

  // |L - logsumexp| / off_by of the nearest L that explains the answer.
  double ratio(const Answer& made) const {
    const double nearest = rounded(logsumexp_, t_);
    double best = explains(nearest, made) ? distance(nearest) : kInfinity;
    for (const double direction : {-kInfinity, kInfinity}) {
      double l = nearest;
      for (int i = 0; i < kMostNeighbours && std::isfinite(l); ++i) {
        l = neighbour(l, t_, direction);
        if (distance(l) > kFarthest || distance(l) >= best) break;
        if (explains(l, made)) best = distance(l);
      }
    }
    return best;
  }

 private:
  bool explains(double l, const Answer& made) const {
    if (made.logprob != rounded(most_ - l, t_)) return false;
    if (made.token < 0 || made.token >= static_cast<int64_t>(x_.size())) return false;
    const auto first = std::find_if(x_.begin(), x_.begin() + made.token + 1, [&](double each) {
      return rounded(each - l, t_) == made.logprob;
    });
    return first - x_.begin() == made.token;
  }

  // How far logsumexp is from the numbers that round to l.
  double distance(double l) const {
    const double low = (l + neighbour(l, t_, -kInfinity)) / 2;
    const double high = (l + neighbour(l, t_, kInfinity)) / 2;
    return std::max({low - logsumexp_, logsumexp_ - high, 0.0}) / off_by_;
  }

  std::vector<double> x_;
  Dtype t_;
  double most_ = 0, logsumexp_ = 0, off_by_ = 0;
};

bool same(const Answer& a, const Answer& b) {
  return a.token == b.token &&
         (a.logprob == b.logprob || (std::isnan(a.logprob) && std::isnan(b.logprob)));
}

double ratio_of(const std::vector<double>& x, const Answer& made, Dtype t) {
  Answer special = {};
  if (answer_of_special(x, special)) return same(made, special) ? 0 : kInfinity;
  return Row(x, t).ratio(made);
}

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t batch = judged.dims.at("B"), count = judged.dims.at("V");
  const std::vector<double> all = load_all(judged.inputs[0], batch * count, judged.t);
  double worst = 0;
  for (int64_t row = 0; row < batch; ++row) {
    const Answer made = {spec::load_integer(judged.outputs[0], row, Dtype::uint32),
                         spec::load_element(judged.outputs[1], row, judged.t)};
    const auto from = all.begin() + row * count;
    worst = std::max(worst, ratio_of({from, from + count}, made, judged.t));
  }
  return {{"the error of logsumexp that explains the token and its log probability", worst, 1}};
}

}  // namespace mlx_kd::kernels::greedy_token
