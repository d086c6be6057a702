#include "mlx_kd/kernels/attention/attention/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/attention/arrays.h"
#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::attention {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMasked = -0x1p126;
constexpr int64_t kMostTerms = int64_t(1) << 27;  // of a reference, but for the least rows
constexpr int64_t kLeastRows = 6;                 // of a head: the first, the last and others

// Products of a row: with all keys, and with all values.
int64_t terms_of_row(const Dims& dims) {
  return dims.at("S") * (dims.at("Dk") + dims.at("Dv"));
}
int64_t heads_of(const Dims& dims) {
  return dims.at("B") * dims.at("Hq");
}

// Rows of one head that are computed, rising: all, or as many as make kMostTerms of all heads.
std::vector<int64_t> rows_to_compute(const Dims& dims, int64_t head) {
  const int64_t m = dims.at("M");
  std::set<int64_t> chosen;
  if (is_sampled(dims)) {
    const int64_t fit = kMostTerms / (heads_of(dims) * terms_of_row(dims));
    const auto wanted = static_cast<size_t>(std::min(m, std::max(kLeastRows, fit)));
    chosen = {0, m - 1};
    base::Random random(static_cast<uint64_t>(head * 31 + m));
    while (chosen.size() < wanted)
      chosen.insert(static_cast<int64_t>(random.below(static_cast<uint64_t>(m))));
  } else {
    for (int64_t t = 0; t < m; ++t) chosen.insert(chosen.end(), t);
  }
  return {chosen.begin(), chosen.end()};
}

// float32 roundings of a score, and of sums over keys and the powers in them.
double score_roundings(const Dims& dims) {
  return 6 * std::sqrt(static_cast<double>(dims.at("Dk"))) + 6;
}
double sum_roundings(const Dims& dims) {
  return 12 * std::sqrt(static_cast<double>(dims.at("S"))) + 24;
}

// The inputs of one request, element by element.
class Filler {
 public:
  explicit Filler(const spec::FillRequest& request)
      : request_(request),
        dims_(request.dims),
        random_(request.seed * 1000003 + static_cast<uint64_t>(request.distribution)) {}

  // Queries and keys whose products are of one size, whatever theirs; values of all sizes.
  void fill() {
    const bool wide = request_.distribution == Distribution::magnitudes;
    const double most = request_.t == Dtype::float16 ? 6 : 40;
    const double power = wide ? std::round((2 * random_.uniform() - 1) * most) : 0;
    fill_normal(kQ, queries() * dims_.at("Dk"), std::exp2(power + (wide ? 1 : 0)));
    fill_normal(kK, keys() * dims_.at("Dk"), std::exp2(-power));
    fill_values(wide);
    if (dims_.at("has_mask")) fill_mask();
    if (dims_.at("has_sinks")) fill_normal(kSinks, dims_.at("Hq"), 2);
    if (dims_.at("has_bias")) fill_normal(kBias, queries() * dims_.at("S"), 1);
    if (request_.distribution == Distribution::special) add_special_values();
  }

 private:
  int64_t queries() const { return dims_.at("B") * dims_.at("Hq") * dims_.at("M"); }
  int64_t keys() const { return dims_.at("B") * dims_.at("Hk") * dims_.at("S"); }

  void put(PortIndex port, int64_t at, double value) {
    spec::store_element(request_.inputs[port], at, request_.t, static_cast<float>(value));
  }

  void fill_normal(PortIndex port, int64_t count, double by) {
    for (int64_t i = 0; i < count; ++i) put(port, i, by * random_.normal());
  }

  void fill_values(bool wide) {
    const double lo = request_.t == Dtype::float16 ? -12 : -30;
    const double hi = request_.t == Dtype::float16 ? 4 : 20;
    for (int64_t i = 0; i < keys() * dims_.at("Dv"); ++i) {
      const double size = std::exp2(lo + (hi - lo) * random_.uniform());
      put(kV, i, wide ? (random_.next() >> 63 ? -size : size) : random_.normal());
    }
  }

  // One row in eight sees no key.
  void fill_mask() {
    auto* const mask = static_cast<uint8_t*>(request_.inputs[kMask]);
    const int64_t s = dims_.at("S");
    for (int64_t row = 0; row < queries(); ++row)
      for (int64_t j = 0; j < s; ++j) mask[row * s + j] = row % 8 != 5 && random_.below(4) > 0;
  }

  // A NaN in one query; zeros and subnormals in the values; keys that a bias takes out, for one row
  // all of them.
  void add_special_values() {
    put(kQ, 0, std::numeric_limits<double>::quiet_NaN());
    const double tiny = spec::smallest_subnormal(request_.t), values[] = {-0.0, 0, tiny, -3 * tiny};
    for (int64_t i = 0; i < dims_.at("Dv"); ++i) put(kV, i, values[i % 4]);
    if (dims_.at("has_sinks")) put(kSinks, 0, -kInfinity);
    const int64_t s = dims_.at("S");
    for (int64_t row = 0; row < queries() && dims_.at("has_bias"); ++row)
      for (int64_t j = 0; j < s; ++j)
        if (row == 1 || j % 3 == row % 3) put(kBias, row * s + j, -kInfinity);
  }

  const spec::FillRequest& request_;
  const Dims& dims_;
  base::Random random_;
};

// One problem in float64.
class Problem {
 public:
  Problem(const std::vector<const void*>& in, Dtype t, const Dims& dims, double scale)
      : in_(in), t_(t), dims_(dims), scale_(scale) {
    const int64_t keys = dims.at("B") * dims.at("Hk") * dims.at("S");
    k_ = load_all(in[kK], keys * dims.at("Dk"), t);
    v_ = load_all(in[kV], keys * dims.at("Dv"), t);
  }

  // Rows that are not computed are 0, with no bound.
  spec::Reference64 rows() {
    spec::Reference64 result;
    const int64_t group = dims_.at("Hq") / dims_.at("Hk"), width = dims_.at("Dv");
    for (int64_t head = 0; head < heads_of(dims_); ++head) {
      int64_t next = 0;
      const auto leave_out = [&](int64_t until) {
        for (int64_t i = 0; i < (until - next) * width; ++i)
          append(result, {0, 0, 0, spec::kUnchecked});
      };
      // Query heads of one key head follow one another, in each batch row.
      for (const int64_t t : rows_to_compute(dims_, head)) {
        leave_out(t);
        find_scores(head, head / group, t);
        add_row(head / group, result);
        next = t + 1;
      }
      leave_out(dims_.at("M"));
    }
    return result;
  }

 private:
  // Of one row: the scores, and the magnitudes of what they are made of.
  void find_scores(int64_t head, int64_t key_head, int64_t t) {
    const int64_t s = dims_.at("S"), width = dims_.at("Dk"), row = head * dims_.at("M") + t;
    const int64_t position = s - dims_.at("M") + t, window = dims_.at("window");
    query_.resize(static_cast<size_t>(width));
    for (int64_t d = 0; d < width; ++d)
      query_[static_cast<size_t>(d)] = spec::load_element(in_[kQ], row * width + d, t_);
    scores_.assign(static_cast<size_t>(s), kMasked);
    sizes_.assign(static_cast<size_t>(s), 0);
    for (int64_t j = 0; j < s; ++j) {
      if (dims_.at("causal") && j > position) continue;
      if (window > 0 && j <= position - window) continue;
      if (dims_.at("has_mask") && !static_cast<const uint8_t*>(in_[kMask])[row * s + j]) continue;
      const double* const key = &k_[static_cast<size_t>((key_head * s + j) * width)];
      double sum = 0, size = 0;
      for (int64_t d = 0; d < width; ++d) {
        const double product = query_[static_cast<size_t>(d)] * key[d];
        sum += product, size += std::fabs(product);
      }
      const double bias =
          dims_.at("has_bias") ? spec::load_element(in_[kBias], row * s + j, t_) : 0;
      scores_[static_cast<size_t>(j)] = scale_ * sum + bias;
      if (std::isfinite(bias))
        sizes_[static_cast<size_t>(j)] = std::fabs(scale_) * size + std::fabs(bias);
    }
    sink_ = dims_.at("has_sinks") ? spec::load_element(in_[kSinks], head % dims_.at("Hq"), t_)
                                  : -kInfinity;
  }

  void add_row(int64_t key_head, spec::Reference64& result) {
    const int64_t s = dims_.at("S"), width = dims_.at("Dv");
    double most = sink_, all = 0;
    for (const double score : scores_) most = std::max(most, score);
    for (double& score : scores_) all += score = std::exp(score - most);
    all += dims_.at("has_sinks") ? std::exp(sink_ - most) : 0;
    sums_.assign(static_cast<size_t>(width), {});
    const double* const values = &v_[static_cast<size_t>(key_head * s * width)];
    for (int64_t j = 0; j < s; ++j) {
      const double share = scores_[static_cast<size_t>(j)] / all;
      const double size = sizes_[static_cast<size_t>(j)] + std::fabs(most);
      const double sway = std::isfinite(size) && std::fabs(most) < -kMasked ? size : 0;
      for (int64_t d = 0; d < width; ++d) {
        Sum& sum = sums_[static_cast<size_t>(d)];
        const double v = values[j * width + d];
        sum.y += share * v;
        sum.terms += share * std::fabs(v);
        sum.swayed += share * sway * std::fabs(v);
        sum.sway += share * sway;
      }
    }
    const double lost = underflow(t_), share = score_roundings(dims_) / sum_roundings(dims_);
    for (const Sum& sum : sums_)
      append(result, {sum.y, std::fabs(sum.y),
                      sum.terms + share * (sum.swayed + sum.sway * std::fabs(sum.y)), 2 * lost});
  }

  struct Sum {
    double y = 0, terms = 0, swayed = 0, sway = 0;
  };

  const std::vector<const void*>& in_;
  Dtype t_;
  const Dims& dims_;
  double scale_, sink_ = -kInfinity;
  std::vector<double> k_, v_, query_, scores_, sizes_;
  std::vector<Sum> sums_;
};

}  // namespace

void fill(const spec::FillRequest& request) {
  Filler(request).fill();
}

bool is_sampled(const Dims& dims) {
  const int64_t m = dims.at("M");
  return m > kLeastRows &&
         static_cast<double>(heads_of(dims) * m) * static_cast<double>(terms_of_row(dims)) >
             static_cast<double>(kMostTerms);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  spec::Reference64 result = Problem(inputs, dtype, dims, scalars[0]).rows();
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::ErrorBound bound(const Dims& dims) {
  return {
      sum_roundings(dims),
      "The result is rounded once. A sum over n terms is off by 6 sqrt(n) roundings (Higham and "
      "Mary "
      "2019, theorem 2.4): two sums over S keys, of powers and of powers times v, and 24 for the "
      "power (10 each) and the quotient. A score that is off by e changes its share p of y by p e "
      "|v "
      "- y|, and is off by 6 sqrt(Dk) + 6 roundings of A = |scale| sum |q k| + |bias| + the "
      "largest "
      "score: S is sum p |v| plus that many, over those of the sums, of sum p A (|v| + |y|)."};
}

}  // namespace mlx_kd::kernels::attention
