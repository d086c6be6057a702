#include "mlx_kd/kernels/mlstm/head64.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlx_kd::kernels::mlstm {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// What goes from token to token; b begins again where the past is dropped.
struct Course64 {
  double b = 0, m, x;
  int64_t first = 0;
  bool has_past = true, is_full = false;
};

void drop_past(Course64& c, int64_t t) {
  c.first = t, c.has_past = false, c.b = 0;
}

// Returns u; m is infinite once i is, until the past is dropped.
double step_exponential(Course64& c, double log_f, double i, int64_t t, Turn& turn) {
  turn = Turn::past;
  if (log_f == -kInf) {
    drop_past(c, t);
    if (i == -kInf) {
      c.x = c.is_full ? 0 : c.m;
      turn = Turn::kept;
      return -kInf;
    }
    c.is_full = false;
    c.x = -kInf;
  } else if (!c.is_full) {
    c.b += log_f;
  }
  if (i == kInf) {
    drop_past(c, t);
    c.x = 0;
    c.is_full = true;
    turn = Turn::input;
    return 0;
  }
  if (c.is_full) {
    turn = Turn::kept;
    return -kInf;
  }
  const double u = i - c.b;
  if (u > c.x || std::isnan(u)) {
    c.x = u;
    turn = Turn::input;
  }
  return u;
}

double step_sigmoid(Course64& c, double log_f, double i, int64_t t) {
  if (log_f == -kInf)
    drop_past(c, t);
  else
    c.b += log_f;
  c.x = -c.b;
  return log_sigmoid64(i) - c.b;
}

}  // namespace

double log_sigmoid64(double x) {
  return std::min(x, 0.0) - std::log1p(std::exp(-std::fabs(x)));
}
double sigmoid64(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

double Gates64::weight(int64_t t, int64_t s) const {
  const auto row = static_cast<size_t>(t);
  return s < first[row] || s > t ? 0 : std::exp(u[static_cast<size_t>(s)] - x[row]);
}

Gates64 gates64(const Doubles& i, const Doubles& f, double m0, bool sigmoid) {
  Gates64 g;
  const double before = m0 == kInf ? 0 : m0;
  Course64 c{.m = m0, .x = before, .is_full = m0 == kInf};
  double size = std::fabs(before);
  for (size_t t = 0; t < i.size(); ++t) {
    const double log_f = log_sigmoid64(f[t]), x_before = c.x;
    const auto at = static_cast<int64_t>(t);
    Turn turn = Turn::past;
    const double u =
        sigmoid ? step_sigmoid(c, log_f, i[t], at) : step_exponential(c, log_f, i[t], at, turn);
    c.m = c.is_full ? kInf : c.b + c.x;
    const bool is_nothing = c.x == -kInf;
    size = turn == Turn::input ? std::fabs(i[t]) : size + (std::isfinite(log_f) ? -log_f : 0);
    g.u.push_back(u);
    g.x.push_back(is_nothing ? 0 : c.x);
    g.m.push_back(sigmoid ? 0 : c.m);
    g.past.push_back(c.has_past && !is_nothing ? std::exp(sigmoid ? c.b : before - c.x) : 0);
    g.floor.push_back(sigmoid ? 1 : std::exp(-c.m));
    g.size_of_m.push_back(std::isfinite(size) ? size : 0);
    g.margin.push_back(turn == Turn::kept ? kInf : std::fabs(u - x_before));
    g.first.push_back(c.first);
    g.turn.push_back(turn);
  }
  return g;
}

Doubles part64(const void* data, int64_t at, int64_t count, spec::Dtype t) {
  Doubles values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<double>(spec::load_element(data, at + i, t)));
  return values;
}

Head64 head64(const std::vector<const void*>& inputs, spec::Dtype t, const spec::Dims& dims,
              const std::vector<double>& scalars, int64_t head) {
  Head64 h{.s = dims.at("S"),
           .qk = dims.at("DHQK"),
           .hv = dims.at("DHHV"),
           .sigmoid = dims.at("siging") != 0,
           .normalize = dims.at("normalize") != 0,
           .normalizer_grad = dims.at("normalizer_grad") != 0,
           .eps = scalars[0]};
  const auto f32 = spec::Dtype::float32;
  const auto part = [&](size_t port, int64_t count, spec::Dtype type) {
    return part64(inputs[port], head * count, count, type);
  };
  h.q = part(0, h.s * h.qk, t), h.k = part(1, h.s * h.qk, t), h.v = part(2, h.s * h.hv, t);
  for (double& x : h.q) x /= std::sqrt(static_cast<double>(h.qk));
  h.i = part(3, h.s, f32), h.f = part(4, h.s, f32);
  h.c0.assign(static_cast<size_t>(h.qk * h.hv), 0);
  h.n0.assign(static_cast<size_t>(h.qk), 0);
  if (!dims.at("has_state")) return h;
  h.c0 = part(5, h.qk * h.hv, f32), h.n0 = part(6, h.qk, f32), h.m0 = part(7, 1, f32)[0];
  return h;
}

Rows64 rows64(const Head64& h, const Gates64& g) {
  Rows64 rows;
  for (int64_t t = 0; t < h.s; ++t) {
    Summed sum;
    for (int64_t s = 0; s < h.s; ++s) {
      Summed score;
      for (int64_t d = 0; d < h.qk && s <= t; ++d) {
        const double term =
            h.q[static_cast<size_t>(t * h.qk + d)] * h.k[static_cast<size_t>(s * h.qk + d)];
        score.add(term, std::fabs(term));
      }
      rows.scores.push_back(score);
      const double weight = s <= t ? g.weight(t, s) : 0;
      sum.add(weight * score.value, weight * score.size);
    }
    const auto row = static_cast<size_t>(t);
    for (int64_t d = 0; d < h.qk; ++d) {
      const double term =
          g.past[row] * h.q[static_cast<size_t>(t * h.qk + d)] * h.n0[static_cast<size_t>(d)];
      sum.add(term, std::fabs(term));
    }
    const double largest = std::max(std::fabs(sum.value), g.floor[row]);
    rows.inverse.push_back(h.normalize ? 1 / (largest + h.eps) : 1);
    const bool by_sum = std::fabs(sum.value) > g.floor[row];
    const double size = by_sum ? sum.size : std::isinf(largest) ? 0 : largest;
    rows.spread.push_back(h.normalize ? size * rows.inverse.back() : 0);
    rows.sums.push_back(sum);
  }
  return rows;
}

}  // namespace mlx_kd::kernels::mlstm
