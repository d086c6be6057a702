#include "mlx_kd/kernels/attention/attention_quantized/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/coded_keys.h"
#include "mlx_kd/kernels/attention/weighted_rows.h"
#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::attention_quantized {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;

constexpr double kMasked = -0x1p126;

// float32 roundings of a score, and of sums over keys and the powers in them.
double score_roundings(const Dims& dims) {
  return 6 * std::sqrt(static_cast<double>(dims.at("Dk"))) + 10;
}
double sum_roundings(const Dims& dims) {
  return 12 * std::sqrt(static_cast<double>(dims.at("S"))) + 28;
}

int64_t key_rows(const Dims& dims) {
  return dims.at("B") * dims.at("Hk") * dims.at("S");
}

class Problem {
 public:
  Problem(const std::vector<const void*>& in, Dtype t, const Dims& dims, double scale)
      : in_(in),
        t_(t),
        dims_(dims),
        scale_(scale),
        k_(attention::numbers_of_codes(in, kKeyCodes, t, dims, key_rows(dims) * dims.at("Dk"))),
        v_(attention::numbers_of_codes(in, kValueCodes, t, dims, key_rows(dims) * dims.at("Dv"))) {}

  spec::Reference64 all_rows() {
    spec::Reference64 result;
    const int64_t heads = dims_.at("Hq"), group = heads / dims_.at("Hk");
    for (int64_t head = 0; head < dims_.at("B") * heads; ++head)
      for (int64_t t = 0; t < dims_.at("M"); ++t) {
        find_scores(head, head / group, t);
        add_row(head / group, result);
      }
    return result;
  }

 private:
  bool sees(int64_t row, int64_t t, int64_t j) const {
    const int64_t s = dims_.at("S");
    if (dims_.at("causal") && j > s - dims_.at("M") + t) return false;
    return !dims_.at("has_mask") || static_cast<const uint8_t*>(in_[kMask])[row * s + j];
  }

  void find_scores(int64_t head, int64_t key_head, int64_t t) {
    const int64_t s = dims_.at("S"), width = dims_.at("Dk"), row = head * dims_.at("M") + t;
    const std::vector<double> q = load_all(
        static_cast<const std::byte*>(in_[kQ]) + row * width * spec::size_of(t_), width, t_);
    scores_.assign(static_cast<size_t>(s), kMasked);
    sizes_.assign(static_cast<size_t>(s), 0);
    for (int64_t j = 0; j < s; ++j) {
      if (!sees(row, t, j)) continue;
      const auto first = static_cast<size_t>((key_head * s + j) * width);
      double sum = 0, size = 0;
      for (size_t d = 0; d < q.size(); ++d) {
        sum += q[d] * k_.value[first + d];
        size += std::fabs(q[d]) * k_.size[first + d];
      }
      scores_[static_cast<size_t>(j)] = scale_ * sum;
      sizes_[static_cast<size_t>(j)] = std::fabs(scale_) * size;
    }
  }

  void add_row(int64_t key_head, spec::Reference64& result) {
    const int64_t s = dims_.at("S"), width = dims_.at("Dv");
    const double most = *std::max_element(scores_.begin(), scores_.end());
    double all = 0;
    for (double& score : scores_) all += score = std::exp(score - most);
    const bool counts = std::fabs(most) < -kMasked;
    std::vector<attention::KeyShare> shares;
    for (size_t j = 0; j < scores_.size(); ++j) {
      const double share = scores_[j] / all;
      shares.push_back({share, counts ? share * (sizes_[j] + std::fabs(most)) : 0});
    }
    const auto value = [&](size_t j, int64_t d) {
      const auto i = static_cast<size_t>((key_head * s + static_cast<int64_t>(j)) * width + d);
      return std::pair(v_.value[i], v_.size[i]);
    };
    attention::append_weighted(shares, width, score_roundings(dims_) / sum_roundings(dims_), t_,
                               value, result);
  }

  const std::vector<const void*>& in_;
  Dtype t_;
  const Dims& dims_;
  double scale_;
  attention::SizedNumbers k_, v_;
  std::vector<double> scores_, sizes_;
};

}  // namespace

// Queries and keys whose products are of one size; a NaN in one query where it is special.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 1009 + static_cast<uint64_t>(request.distribution));
  const int64_t queries = dims.at("B") * dims.at("Hq") * dims.at("M");
  const bool wide = request.distribution == Distribution::magnitudes;
  const double most = request.t == Dtype::float16 ? 5 : 30;
  const double size = wide ? std::exp2(std::round((2 * random.uniform() - 1) * most)) : 1;
  const auto put = [&](PortIndex port, int64_t at, double value) {
    spec::store_element(request.inputs[port], at, request.t, static_cast<float>(value));
  };
  for (int64_t i = 0; i < queries * dims.at("Dk"); ++i) put(kQ, i, random.normal() / size);
  for (const PortIndex port : {kKeyCodes, kValueCodes})
    attention::fill_codes(request, port, key_rows(dims) * dims.at(port == kKeyCodes ? "Dk" : "Dv"),
                          size, random);
  if (dims.at("has_mask")) {
    auto* const mask = static_cast<uint8_t*>(request.inputs[kMask]);
    for (int64_t row = 0; row < queries; ++row)  // one row in eight sees no key
      for (int64_t j = 0; j < dims.at("S"); ++j)
        mask[row * dims.at("S") + j] = row % 8 != 5 && random.below(4) > 0;
  }
  if (request.distribution == Distribution::special)
    put(kQ, 0, std::numeric_limits<double>::quiet_NaN());
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  spec::Reference64 result = Problem(inputs, dtype, dims, scalars[0]).all_rows();
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::ErrorBound bound(const Dims& dims) {
  return {
      sum_roundings(dims),
      "As attention, with A = |scale| sum |q| (|scale code| + |bias|) + the largest score and "
      "|v| = |scale code| + |bias|: an element is two roundings of these, in addition to those "
      "of the sums, and scale and log2(e) are in q with one each. Where codes are multiplied as "
      "bytes, the sums are exact, and a number that becomes an integer is off by a rounding of "
      "the largest of its row."};
}

}  // namespace mlx_kd::kernels::attention_quantized
