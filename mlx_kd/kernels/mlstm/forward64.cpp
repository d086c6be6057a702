#include <algorithm>
#include <cmath>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/mlstm/head64.h"
#include "mlx_kd/kernels/mlstm/reference.h"

namespace mlx_kd::kernels::mlstm {
namespace {

double at(const Doubles& values, int64_t row, int64_t width, int64_t column) {
  return values[static_cast<size_t>(row * width + column)];
}

// A state entry: `past` of what it was, and its share of each token. `token` gives the entry of a
// token.
template <class Token>
Summed of_state(const Gates64& g, int64_t tokens, double before, const Token& token) {
  Summed sum;
  const double old = g.past.back() * before;
  sum.add(old, std::fabs(old));
  for (int64_t s = 0; s < tokens; ++s) {
    const double weight = g.weight(tokens - 1, s);
    const double term = weight == 0 ? 0 : weight * token(s);
    sum.add(term, std::fabs(term));
  }
  // The kernel's state belongs to m as it is stored.
  const double m = std::isfinite(g.m.back()) ? std::fabs(g.m.back()) / 100 : 0;
  sum.size += std::fabs(sum.value) * m;
  return sum;
}

Charged charged(const Summed& sum) {
  return {sum.value, std::fabs(sum.value), sum.size, 0x1p-120};
}

void add_h(const Head64& h, const Gates64& g, const Rows64& rows, double lost,
           spec::Reference64& to) {
  for (int64_t t = 0; t < h.s; ++t) {
    const auto row = static_cast<size_t>(t);
    for (int64_t e = 0; e < h.hv; ++e) {
      Summed sum;
      for (int64_t s = 0; s <= t; ++s) {
        const double weight = g.weight(t, s);
        const Summed& score = rows.scores[static_cast<size_t>(t * h.s + s)];
        const double v = at(h.v, s, h.hv, e);
        if (weight != 0) sum.add(weight * score.value * v, weight * score.size * std::fabs(v));
      }
      for (int64_t d = 0; d < h.qk; ++d) {
        const double term = g.past[row] * at(h.q, t, h.qk, d) * at(h.c0, d, h.hv, e);
        sum.add(term, std::fabs(term));
      }
      const double y = sum.value * rows.inverse[row];
      append(to, {y, std::fabs(y), sum.size * rows.inverse[row] + std::fabs(y) * rows.spread[row],
                  lost});
    }
  }
}

void add_state(const Head64& h, const Gates64& g, std::vector<spec::Reference64>& to) {
  for (int64_t d = 0; d < h.qk; ++d) {
    for (int64_t e = 0; e < h.hv; ++e)
      append(to[1], charged(of_state(g, h.s, at(h.c0, d, h.hv, e), [&](int64_t s) {
               return at(h.k, s, h.qk, d) * at(h.v, s, h.hv, e);
             })));
    append(to[2], charged(of_state(g, h.s, h.n0[static_cast<size_t>(d)],
                                   [&](int64_t s) { return at(h.k, s, h.qk, d); })));
  }
  append(to[3], {g.m.back(), std::fabs(g.m.back()), g.size_of_m.back(), 0});
}

}  // namespace

std::vector<spec::Reference64> forward64(const std::vector<const void*>& inputs, spec::Dtype t,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars) {
  std::vector<spec::Reference64> to(4);
  for (int64_t head = 0; head < dims.at("heads"); ++head) {
    const Head64 h = head64(inputs, t, dims, scalars, head);
    const Gates64 g = gates64(h.i, h.f, h.m0, h.sigmoid);
    add_h(h, g, rows64(h, g), underflow(t), to[0]);
    add_state(h, g, to);
  }
  saturate(to[0], t, kAccumulated);
  return to;
}

}  // namespace mlx_kd::kernels::mlstm
