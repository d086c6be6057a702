// The gradient of mLSTM in float64.
//
// h = H / (N + eps) with H and r the sums of exp(D_ts) terms over exp(m), N the larger of |r| and
// exp(-m). With D and m as variables of their own, H and r over exp(m) do not change h but by eps:
//   dH  = dh / (N + eps)
//   dN  = -(dh . h) / (N + eps), dr = dN sign(r) where |r| > exp(-m)
//   dm  = -(dh . h) eps / (N + eps)
//   dD_ts = weight_ts (q_t . k_s) (dH_t . v_s + dr_t)
// D_ts = b_t - b_s + i_s: log sigmoid(f_j) is part of all D_ts with s < j <= t. m follows the
// larger of its two arguments at each token.
#include <algorithm>
#include <cmath>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/mlstm/head64.h"
#include "mlx_kd/kernels/mlstm/reference.h"

namespace mlx_kd::kernels::mlstm {
namespace {

// Where two branches are this close, in shares of their terms, either may be taken.
constexpr double kClose = 1e-4, kEither = 1e7;

struct Cotangents {
  Doubles h, c, n;
  double m;
};

class Backward {
 public:
  Backward(const Head64& head, const Cotangents& cotangents)
      : h_(head),
        d_(cotangents),
        g_(gates64(head.i, head.f, head.m0, head.sigmoid)),
        rows_(rows64(head, g_)),
        dq_(sums(h_.s * h_.qk)),
        dk_(sums(h_.s * h_.qk)),
        dv_(sums(h_.s * h_.hv)),
        dc0_(sums(h_.qk * h_.hv)),
        dn0_(sums(h_.qk)),
        di_(sums(h_.s)),
        df_(sums(h_.s)),
        pairs_(sums(h_.s * h_.s)),
        from_past_(sums(h_.s)),
        dm_(sums(h_.s)) {
    for (int64_t t = 0; t < h_.s; ++t) take_row(t);
    take_state();
    take_gates();
    take_m();
  }

  const Sums& dq() const { return dq_; }
  const Sums& dk() const { return dk_; }
  const Sums& dv() const { return dv_; }
  const Sums& dc0() const { return dc0_; }
  const Sums& dn0() const { return dn0_; }
  const Summed& dm0() const { return dm0_; }
  // Of the gates as they came.
  Sums di() const {
    Sums made = di_;
    for (size_t s = 0; s < made.size() && h_.sigmoid; ++s) scale(made[s], sigmoid64(-h_.i[s]));
    return made;
  }
  Sums df() const {
    Sums made = df_;
    for (size_t s = 0; s < made.size(); ++s) scale(made[s], sigmoid64(-h_.f[s]));
    return made;
  }

 private:
  static Sums sums(int64_t count) { return Sums(static_cast<size_t>(count)); }
  static void scale(Summed& sum, double by) { sum.value *= by, sum.size *= by; }
  static size_t place(int64_t row, int64_t width, int64_t column) {
    return static_cast<size_t>(row * width + column);
  }

  // dH_t . `other`, with the error of N in its size.
  Summed along(int64_t t, const double* other, int64_t step) const {
    const auto row = static_cast<size_t>(t);
    Summed sum;
    for (int64_t e = 0; e < h_.hv; ++e) {
      const double term = d_.h[place(t, h_.hv, e)] * rows_.inverse[row] * other[e * step];
      sum.add(term, std::fabs(term) * (1 + rows_.spread[row]));
    }
    return sum;
  }

  void take_row(int64_t t) {
    const auto row = static_cast<size_t>(t);
    Sums by_token, by_key;  // dH . v_s, and dH C^T
    Summed dot;             // dh . h
    for (int64_t s = 0; s <= t; ++s) {
      by_token.push_back(along(t, &h_.v[place(s, h_.hv, 0)], 1));
      const Summed& score = rows_.scores[place(t, h_.s, s)];
      const double weight = g_.weight(t, s);
      dot.add(weight * score.value * by_token.back().value,
              weight * score.size * by_token.back().size);
    }
    for (int64_t d = 0; d < h_.qk; ++d) {
      by_key.push_back(along(t, &h_.c0[place(d, h_.hv, 0)], 1));
      const double q = g_.past[row] * h_.q[place(t, h_.qk, d)];
      dot.add(q * by_key.back().value, std::fabs(q) * by_key.back().size);
    }
    const Summed dr = normaliser_row(t, dot);
    for (int64_t s = 0; s <= t; ++s)
      take_pair(t, s,
                {by_token[static_cast<size_t>(s)].value + dr.value,
                 by_token[static_cast<size_t>(s)].size + dr.size});
    take_past(t, by_key, dr);
  }

  // dr of a row, and its dm.
  Summed normaliser_row(int64_t t, const Summed& dot) {
    const auto row = static_cast<size_t>(t);
    if (!h_.normalize || !h_.normalizer_grad) return {};
    const double inverse = rows_.inverse[row], spread = 1 + rows_.spread[row];
    if (!h_.sigmoid)
      dm_[row] = {-dot.value * h_.eps * inverse, dot.size * h_.eps * inverse * spread};
    const Summed& r = rows_.sums[row];
    const double margin = std::fabs(r.value) - g_.floor[row];
    Summed dr;
    if (margin > 0)
      dr = {-std::copysign(dot.value * inverse, dot.value * r.value), dot.size * inverse * spread};
    if (std::fabs(margin) < kClose * (r.size + g_.floor[row]))
      dr.size += kEither * std::fabs(dot.value * inverse);
    return dr;
  }

  // `along`: dH_t . v_s + dr_t.
  void take_pair(int64_t t, int64_t s, const Summed& along) {
    const double weight = g_.weight(t, s);
    if (weight == 0) return;
    const Summed& score = rows_.scores[place(t, h_.s, s)];
    pairs_[place(t, h_.s, s)] = {weight * score.value * along.value,
                                 weight * score.size * along.size};
    const double by = 1 / std::sqrt(static_cast<double>(h_.qk));
    for (int64_t d = 0; d < h_.qk; ++d) {
      const double k = by * weight * h_.k[place(s, h_.qk, d)];
      const double q = weight * h_.q[place(t, h_.qk, d)];
      dq_[place(t, h_.qk, d)].add(k * along.value, std::fabs(k) * along.size);
      dk_[place(s, h_.qk, d)].add(q * along.value, std::fabs(q) * along.size);
    }
    const auto row = static_cast<size_t>(t);
    for (int64_t e = 0; e < h_.hv; ++e) {
      const double dh = weight * d_.h[place(t, h_.hv, e)] * rows_.inverse[row];
      dv_[place(s, h_.hv, e)].add(dh * score.value,
                                  std::fabs(dh) * score.size * (1 + rows_.spread[row]));
    }
  }

  // The state before the first token, in row t.
  void take_past(int64_t t, const Sums& by_key, const Summed& dr) {
    const auto row = static_cast<size_t>(t);
    const double past = g_.past[row], by = 1 / std::sqrt(static_cast<double>(h_.qk));
    for (int64_t d = 0; d < h_.qk; ++d) {
      const Summed& x = by_key[static_cast<size_t>(d)];
      const double n = h_.n0[static_cast<size_t>(d)], q = past * h_.q[place(t, h_.qk, d)];
      const Summed all = {x.value + dr.value * n, x.size + dr.size * std::fabs(n)};
      dq_[place(t, h_.qk, d)].add(by * past * all.value, by * past * all.size);
      from_past_[row].add(q * all.value, std::fabs(q) * all.size);
      dn0_[static_cast<size_t>(d)].add(q * dr.value, std::fabs(q) * dr.size);
      for (int64_t e = 0; e < h_.hv; ++e) {
        const double term = q * d_.h[place(t, h_.hv, e)] * rows_.inverse[row];
        dc0_[place(d, h_.hv, e)].add(term, std::fabs(term) * (1 + rows_.spread[row]));
      }
    }
  }

  // The cotangents of the last state.
  void take_state() {
    to_state_ = sums(h_.s);
    for (int64_t s = 0; s < h_.s; ++s) {
      const double weight = g_.weight(h_.s - 1, s);
      for (int64_t d = 0; d < h_.qk && weight != 0; ++d) {
        const double k = h_.k[place(s, h_.qk, d)];
        Summed dk = {d_.n[static_cast<size_t>(d)], std::fabs(d_.n[static_cast<size_t>(d)])};
        for (int64_t e = 0; e < h_.hv; ++e) {
          const double dc = d_.c[place(d, h_.hv, e)], v = h_.v[place(s, h_.hv, e)];
          dk.add(dc * v, std::fabs(dc * v));
          dv_[place(s, h_.hv, e)].add(weight * k * dc, std::fabs(weight * k * dc));
        }
        dk_[place(s, h_.qk, d)].add(weight * dk.value, weight * dk.size);
        to_state_[static_cast<size_t>(s)].add(weight * k * dk.value,
                                              std::fabs(weight * k) * dk.size);
      }
    }
    const double past = g_.past.back();
    for (size_t i = 0; i < dc0_.size(); ++i) add_through(past * d_.c[i], h_.c0[i], dc0_[i]);
    for (size_t i = 0; i < dn0_.size(); ++i) add_through(past * d_.n[i], h_.n0[i], dn0_[i]);
  }
  void add_through(double cotangent, double state, Summed& to) {
    to.add(cotangent, std::fabs(cotangent));
    through_.add(cotangent * state, std::fabs(cotangent * state));
  }

  // di of the pairs and of the last state; df of all pairs (t, s) with s < j <= t, the states being
  // tokens before the first and after the last.
  void take_gates() {
    Sums columns = sums(h_.s);  // of the rows so far
    Summed read = through_;
    for (int64_t j = h_.s - 1; j >= 0; --j) {
      const auto at = static_cast<size_t>(j);
      for (int64_t s = 0; s <= j; ++s) {
        const Summed& pair = pairs_[place(j, h_.s, s)];
        columns[static_cast<size_t>(s)].add(pair.value, pair.size);
      }
      read.add(from_past_[at].value, from_past_[at].size);
      df_[at] = read;
      for (size_t s = 0; s < at; ++s) {
        df_[at].add(columns[s].value, columns[s].size);
        df_[at].add(to_state_[s].value, to_state_[s].size);
      }
      di_[at] = columns[at];
      di_[at].add(to_state_[at].value, to_state_[at].size);
    }
  }

  void take_m() {
    const bool counts = h_.normalizer_grad && !h_.sigmoid;
    Summed carry;
    if (counts) {
      carry = {d_.m - through_.value, std::fabs(d_.m) + through_.size};
      for (const Summed& s : to_state_) carry.add(-s.value, s.size);
    }
    for (int64_t t = h_.s - 1; t >= 0; --t) {
      const auto row = static_cast<size_t>(t);
      carry.add(dm_[row].value, dm_[row].size);
      if (counts && g_.margin[row] < kClose) carry.size += kEither * std::fabs(carry.value);
      if (counts && g_.margin[row] < kClose) di_[row].size += carry.size;
      if (g_.turn[row] == Turn::input) {
        di_[row].add(carry.value, carry.size);
        carry = {};
      } else if (g_.turn[row] == Turn::past) {
        df_[row].add(carry.value, carry.size);
      }
    }
    if (h_.sigmoid) return;
    dm0_ = {carry.value + through_.value, carry.size + through_.size};
    for (const Summed& of_row : from_past_) dm0_.add(of_row.value, of_row.size);
  }

  const Head64& h_;
  const Cotangents& d_;
  Gates64 g_;
  Rows64 rows_;
  Sums dq_, dk_, dv_, dc0_, dn0_, di_, df_;
  Sums pairs_;      // dD of (t, s)
  Sums from_past_;  // of (t, the state before)
  Sums to_state_;   // of (the last state, s)
  Summed through_;  // of (the last state, the state before)
  Sums dm_;
  Summed dm0_;
};

// As saturate(), but for results that a branch leaves open (kEither): their bound is beyond all
// numbers of the type, which is no reason to take them for infinite.
void saturate_closed(spec::Reference64& to, spec::Dtype t) {
  const spec::Reference64 open = to;
  saturate(to, t, kAccumulated);
  for (size_t i = 0; i < to.y.size(); ++i)
    if (std::isfinite(to.y[i]) || kAccumulated * 0x1p-24 * open.terms[i] > spec::largest_finite(t))
      to.y[i] = open.y[i], to.terms[i] = open.terms[i];
}

void append_all(spec::Reference64& to, const Sums& from, double lost) {
  for (const Summed& each : from) append(to, {each.value, std::fabs(each.value), each.size, lost});
}

}  // namespace

std::vector<spec::Reference64> backward64(const std::vector<const void*>& inputs, spec::Dtype t,
                                          const spec::Dims& dims,
                                          const std::vector<double>& scalars) {
  std::vector<spec::Reference64> to(8);
  const int64_t s = dims.at("S"), qk = dims.at("DHQK"), hv = dims.at("DHHV");
  const auto f32 = spec::Dtype::float32;
  for (int64_t head = 0; head < dims.at("heads"); ++head) {
    const Head64 h = head64(inputs, t, dims, scalars, head);
    const Cotangents d = {part64(inputs[8], head * s * hv, s * hv, t),
                          part64(inputs[9], head * qk * hv, qk * hv, f32),
                          part64(inputs[10], head * qk, qk, f32),
                          part64(inputs[11], head, 1, f32)[0]};
    const Backward made(h, d);
    append_all(to[0], made.dq(), underflow(t));
    append_all(to[1], made.dk(), underflow(t));
    append_all(to[2], made.dv(), underflow(t));
    append_all(to[3], made.di(), 0x1p-110);
    append_all(to[4], made.df(), 0x1p-110);
    if (!dims.at("has_state")) continue;
    append_all(to[5], made.dc0(), 0x1p-110);
    append_all(to[6], made.dn0(), 0x1p-110);
    append_all(to[7], {made.dm0()}, 0x1p-110);
  }
  for (size_t i = 0; i < 3; ++i) saturate_closed(to[i], t);
  return to;
}

}  // namespace mlx_kd::kernels::mlstm
