#include "mlx_kd/kernels/sampling/sample_tokens/judge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::sample_tokens {
namespace {

using spec::Dtype;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Of the sum of all weights: what a serial float32 sum of 150,000 terms is off by, and more.
constexpr double kRoom = 1e-3;
constexpr int64_t kNumbersOfRow = 7;

double rounded(double x, Dtype t) {
  uint32_t bits = 0;
  spec::store_element(&bits, 0, t, static_cast<float>(x));
  return spec::load_element(&bits, 0, t);
}

struct Settings {
  double by, top_p, log_min_p, kept, top_k, xtc_probability, xtc_threshold;
};

Settings settings_of(const spec::JudgedCase& judged, int64_t row) {
  if (judged.dims.at("each_row")) {
    std::array<double, kNumbersOfRow> s;
    for (int64_t i = 0; i < kNumbersOfRow; ++i)
      s[static_cast<size_t>(i)] =
          spec::load_number(judged.inputs[3], row * kNumbersOfRow + i, Dtype::float32);
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]};
  }
  const auto& s = judged.scalars;
  return {s[0] == 0 ? 0 : 1 / s[0], s[1], std::log(s[2]), s[3], s[4], s[5], s[6]};
}

// --- random numbers as mx.random makes them ---

using Key = std::array<uint32_t, 2>;

Key hash_of(Key key, uint32_t a, uint32_t b) {
  const std::array<uint32_t, 3> keys = {key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bdau};
  constexpr uint32_t kBy[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  a += keys[0], b += keys[1];
  for (uint32_t turn = 0; turn < 5; ++turn) {
    for (const uint32_t by : kBy[turn % 2]) a += b, b = (b << by | b >> (32 - by)) ^ a;
    a += keys[(turn + 1) % 3], b += keys[(turn + 2) % 3] + turn + 1;
  }
  return {a, b};
}

double uniform(Key key, uint32_t i, uint32_t count) {
  const uint32_t half = count / 2, odd = count % 2;
  uint32_t word = 0;
  if (i < half)
    word = hash_of(key, i, half + odd + i)[0];
  else if (odd && i == half)
    word = hash_of(key, half, 0)[0];
  else
    word = hash_of(key, i - half - odd, i)[1];
  return std::min(static_cast<double>(static_cast<float>(word)) * 0x1p-32, 1 - 0x1p-24);
}

struct Draws {
  Key xtc = {}, token = {};
};

Draws draws_of(const spec::JudgedCase& judged, int64_t row) {
  const auto* given = static_cast<const uint32_t*>(judged.inputs[1]);
  const int64_t count = judged.dims.at("keys");
  Key state = {given[0], given[1]};
  int64_t taken = 0;
  const auto next = [&]() -> Key {
    if (count == 0) {
      const Key a = hash_of(state, 0, 2), b = hash_of(state, 1, 3);
      state = {a[0], b[0]};
      return {a[1], b[1]};
    }
    const int64_t at = std::min(taken++, count - 1);
    return {given[2 * at], given[2 * at + 1]};
  };
  Draws draws;
  for (int64_t i = judged.dims.at("each_row") ? 0 : row; i <= row; ++i) {
    const Settings settings = settings_of(judged, i);
    if (settings.by == 0) continue;
    if (settings.xtc_probability > 0) draws.xtc = next();
    draws.token = next();
  }
  return draws;
}

// --- one row ---

struct Answer {
  int64_t token;
  double logprob;
};

class Row {
 public:
  Row(const spec::JudgedCase& judged, int64_t index, std::vector<double> x)
      : judged_(judged),
        settings_(settings_of(judged, index)),
        draws_(draws_of(judged, index)),
        index_(index),
        t_(judged.t),
        x_(std::move(x)) {
    most_ = *std::max_element(x_.begin(), x_.end());
    is_broken_ = std::isinf(most_) ||
                 std::any_of(x_.begin(), x_.end(), [](double each) { return std::isnan(each); });
    double sum = 0;
    for (const double each : x_) sum += std::exp(each - most_);
    minus_ = judged.dims.at("normalised") ? 0 : most_ + std::log(sum);
  }

  bool is_broken() const { return is_broken_; }

  // 0 for a draw of the chain, above 1 for what it cannot draw.
  double ratio(const Answer& made) const {
    if (made.token < 0 || made.token >= std::ssize(x_)) return kInfinity;
    double best = kInfinity;
    for (double off : {0.0, -kRoom, kRoom}) {
      if (judged_.dims.at("normalised")) off = 0;
      const double minus = rounded(minus_ + off * (t_ == Dtype::float32 ? 1e-2 : 1), t_);
      std::vector<double> logprobs;
      for (const double each : x_) logprobs.push_back(rounded(each - minus, t_));
      const double given = logprobs[static_cast<size_t>(made.token)];
      const double error = std::fabs(given - made.logprob) / (4 * 0x1p-24 * (std::fabs(minus) + 1));
      if (t_ == Dtype::float32 ? !(error <= 100) : given != made.logprob) continue;
      for (const double room : {0.0, -kRoom, kRoom})
        for (const bool in_t : {true, false})
          best = std::min(best, of_draw(filtered(logprobs, in_t, room), logprobs, made.token));
    }
    return best;
  }

  // The largest of a row, in order.
  bool are_largest(const std::vector<int64_t>& ids, const std::vector<double>& logprobs) const {
    std::vector<bool> taken(x_.size());
    double least = kInfinity;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= std::ssize(x_) || taken[static_cast<size_t>(ids[i])])
        return false;
      taken[static_cast<size_t>(ids[i])] = true;
      const double value = x_[static_cast<size_t>(ids[i])] - minus_;
      const double room =
          2 * spec::unit_roundoff(t_) * (std::fabs(minus_) + std::fabs(value)) + 1e-3;
      if (std::isfinite(value) && !(std::fabs(value - logprobs[i]) <= room)) return false;
      if (logprobs[i] > least) return false;
      least = logprobs[i];
    }
    for (size_t i = 0; i < x_.size(); ++i) {
      const double room =
          2 * spec::unit_roundoff(t_) * (std::fabs(minus_) + std::fabs(x_[i])) + 1e-3;
      if (!ids.empty() && !taken[i] && x_[i] - minus_ > least + room) return false;
    }
    return true;
  }

 private:
  using Kept = std::vector<bool>;

  std::vector<size_t> descending(const std::vector<double>& y, bool lowest) const {
    std::vector<size_t> order(y.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (!lowest) std::reverse(order.begin(), order.end());
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return y[a] > y[b]; });
    return order;
  }

  void drop_by_top_p(std::vector<double>& y, double room) const {
    const auto order = descending(y, true);
    double total = 0, above = 0, least = kInfinity;
    for (const double each : y) total += std::exp(each);
    for (const size_t i : order) {
      if (above >= settings_.top_p * total * (1 + room)) break;
      above += std::exp(y[i]);
      least = y[i];
    }
    for (double& each : y)
      if (each < least) each = -kInfinity;
  }

  void drop_by_min_p(std::vector<double>& y) const {
    const double least =
        rounded(*std::max_element(y.begin(), y.end()) + rounded(settings_.log_min_p, t_), t_);
    const double kept = settings_.kept < 2 ? 0 : settings_.kept;
    const auto order = descending(y, false);
    for (size_t i = 0; i < y.size(); ++i)
      if (y[order[i]] < least && static_cast<double>(i) >= kept) y[order[i]] = -kInfinity;
  }

  // The softmax as MLX makes it on a CPU, with a sum in T, or in float64.
  std::vector<double> softmax_of(const std::vector<double>& y, bool in_t) const {
    const double most = *std::max_element(y.begin(), y.end());
    const auto kept = [&](double x) { return in_t ? rounded(x, t_) : x; };
    std::vector<double> p;
    double sum = 0;
    for (const double each : y)
      p.push_back(kept(std::exp(kept(each - most)))), sum = kept(sum + p.back());
    for (double& each : p) each = kept(each * kept(1 / sum));
    return p;
  }

  void drop_by_xtc(std::vector<double>& y, bool in_t, double room) const {
    if (uniform(draws_.xtc, 0, 1) > settings_.xtc_probability) return;
    const std::vector<double> p = softmax_of(y, in_t);
    const double threshold = rounded(settings_.xtc_threshold, t_) * (1 + room);
    double least = kInfinity;
    for (const double each : p)
      if (each > threshold) least = std::min(least, each);
    std::vector<bool> special(y.size());
    for (int64_t i = 0; i < judged_.dims.at("special"); ++i)
      special[static_cast<size_t>(spec::load_integer(judged_.inputs[2], i, Dtype::int32))] = true;
    for (size_t i = 0; i < y.size(); ++i)
      if (p[i] > least && !special[i]) y[i] = -kInfinity;
  }

  void drop_by_top_k(std::vector<double>& y) const {
    const auto order = descending(y, true);
    for (size_t i = static_cast<size_t>(settings_.top_k); i < y.size(); ++i)
      y[order[i]] = -kInfinity;
  }

  std::vector<double> filtered(std::vector<double> y, bool in_t, double room) const {
    if (settings_.by == 0) return y;
    if (settings_.top_p > 0 && settings_.top_p < 1) drop_by_top_p(y, room);
    if (settings_.log_min_p > -kInfinity) drop_by_min_p(y);
    if (settings_.xtc_probability > 0) drop_by_xtc(y, in_t, room);
    if (settings_.top_k > 0 && settings_.top_k < static_cast<double>(y.size())) drop_by_top_k(y);
    return y;
  }

  double of_draw(const std::vector<double>& y, const std::vector<double>& logprobs,
                 int64_t token) const {
    if (settings_.by == 0) {
      const auto first = std::max_element(logprobs.begin(), logprobs.end()) - logprobs.begin();
      return first == token ? 0 : kInfinity;
    }
    const double by = rounded(settings_.by, t_);
    std::vector<double> x;
    for (const double each : y) x.push_back(rounded(each * by, t_));
    const auto at = static_cast<size_t>(token);
    if (x[at] == -kInfinity) return kInfinity;
    const int64_t rows = judged_.dims.at("B");
    return (rows == 1 && !judged_.dims.at("vector")) || judged_.dims.at("each_row")
               ? of_inverse(x, at)
               : of_scores(x, at, rows);
  }

  double of_inverse(const std::vector<double>& x, size_t token) const {
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0, before = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (i == token) before = sum;
      sum += std::exp(x[i] - most);
    }
    const double u = uniform(draws_.token, 0, 1) * sum, weight = std::exp(x[token] - most);
    return std::max({before - u, u - before - weight, 0.0}) / (kRoom * sum);
  }

  double of_scores(const std::vector<double>& x, size_t token, int64_t rows) const {
    const auto count = static_cast<uint32_t>(x.size());
    const auto score = [&](size_t i) {
      const double u =
          uniform(draws_.token, static_cast<uint32_t>(index_) * count + static_cast<uint32_t>(i),
                  static_cast<uint32_t>(rows) * count);
      return x[i] - std::log(-std::log(u));
    };
    double best = -kInfinity;
    for (size_t i = 0; i < x.size(); ++i) best = std::max(best, score(i));
    return (best - score(token)) / (kRoom + 1e-6 * std::fabs(best));
  }

  const spec::JudgedCase& judged_;
  Settings settings_;
  Draws draws_;
  int64_t index_;
  Dtype t_;
  std::vector<double> x_;
  double most_ = 0, minus_ = 0;
  bool is_broken_ = false;
};

bool top_is_right(const spec::JudgedCase& judged, int64_t row, const Row& reference) {
  std::vector<int64_t> ids;
  std::vector<double> logprobs;
  const int64_t top = judged.dims.at("top");
  for (int64_t i = row * top; i < (row + 1) * top; ++i) {
    ids.push_back(spec::load_integer(judged.outputs[2], i, Dtype::uint32));
    logprobs.push_back(spec::load_element(judged.outputs[3], i, Dtype::float32));
  }
  return reference.are_largest(ids, logprobs);
}

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t rows = judged.dims.at("B"), count = judged.dims.at("V");
  const std::vector<double> all = load_all(judged.inputs[0], rows * count, judged.t);
  double worst = 0, top = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const auto from = all.begin() + row * count;
    const Row reference(judged, row, {from, from + count});
    const Answer made = {spec::load_integer(judged.outputs[0], row, Dtype::uint32),
                         spec::load_element(judged.outputs[1], row, Dtype::float32)};
    if (reference.is_broken()) {
      if (made.token != 0 || !std::isnan(made.logprob)) worst = kInfinity;
      continue;
    }
    worst = std::max(worst, reference.ratio(made));
    if (!top_is_right(judged, row, reference)) top = kInfinity;
  }
  return {{"how far the draw is from the token's share, by the error of float32 sums", worst, 1},
          {"the largest log probabilities", top, 1}};
}

}  // namespace mlx_kd::kernels::sample_tokens
