#include "mlx_kd/kernels/attention/attention_paged/judge.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/weighted_rows.h"
#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::attention_paged {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;

// float32 roundings of a score, and of sums over keys and the powers in them.
double score_roundings(const Dims& dims) {
  return 6 * std::sqrt(static_cast<double>(dims.at("Dk"))) + 8;
}
double sum_roundings(const Dims& dims) {
  return 12 * std::sqrt(static_cast<double>(dims.at("W") * dims.at("L"))) + 28;
}

int64_t number(const void* from, int64_t i) {
  return spec::load_integer(from, i, Dtype::int32);
}

// A key that a row sees: its row of the pages, its score and the size of what that is made of.
struct Key {
  int64_t row;
  double score, size;
};

class Problem {
 public:
  Problem(const std::vector<const void*>& in, Dtype t, const Dims& dims, double scale)
      : in_(in), t_(t), dims_(dims), scale_(scale) {
    const int64_t rows = dims.at("P") * dims.at("Hk") * dims.at("L");
    k_ = load_all(in[kKeyPages], rows * dims.at("Dk"), t);
    v_ = load_all(in[kValuePages], rows * dims.at("Dv"), t);
  }

  spec::Reference64 all_rows() {
    spec::Reference64 result;
    const int64_t heads = dims_.at("Hq"), rows = dims_.at("M");
    for (int64_t row = 0; row < dims_.at("B") * heads * rows; ++row) {
      find_keys(row / rows / heads, row / rows % heads, row % rows);
      add_row(result);
    }
    return result;
  }

 private:
  void find_keys(int64_t b, int64_t head, int64_t t) {
    const int64_t length = dims_.at("L"), heads = dims_.at("Hk"), width = dims_.at("Dk");
    const int64_t entries = dims_.at("W"), key_head = head / (dims_.at("Hq") / heads);
    const int64_t given = number(in_[kEnds], b), end = std::min(given, entries * length);
    const int64_t last = std::min(given - dims_.at("M") + t + 1, end);
    const int64_t query = ((b * dims_.at("Hq") + head) * dims_.at("M") + t) * width;
    keys_.clear();
    for (int64_t j = std::max<int64_t>(number(in_[kBegins], b), 0); j < last; ++j) {
      const int64_t page = number(in_[kTable], b * entries + j / length);
      if (page < 0 || page >= dims_.at("P")) continue;
      Key key = {(page * heads + key_head) * length + j % length, 0, 0};
      for (int64_t d = 0; d < width; ++d) {
        const double q = spec::load_element(in_[kQ], query + d, t_);
        const double product = q * k_[static_cast<size_t>(key.row * width + d)];
        key.score += scale_ * product, key.size += std::fabs(scale_ * product);
      }
      keys_.push_back(key);
    }
  }

  void add_row(spec::Reference64& result) {
    double most = -std::numeric_limits<double>::infinity(), all = 0;
    for (const Key& key : keys_) most = std::max(most, key.score);
    for (Key& key : keys_) all += key.score = std::exp(key.score - most);
    std::vector<attention::KeyShare> shares;
    for (const Key& key : keys_) {
      const double share = key.score / all;
      shares.push_back({share, share * (key.size + std::fabs(most))});
    }
    const int64_t width = dims_.at("Dv");
    const auto value = [&](size_t i, int64_t d) {
      const double v = v_[static_cast<size_t>(keys_[i].row * width + d)];
      return std::pair(v, std::fabs(v));
    };
    attention::append_weighted(shares, width, score_roundings(dims_) / sum_roundings(dims_), t_,
                               value, result);
  }

  const std::vector<const void*>& in_;
  Dtype t_;
  const Dims& dims_;
  double scale_;
  std::vector<double> k_, v_;
  std::vector<Key> keys_;
};

}  // namespace

// Products of one size; in special cases pages that are not there, rows without a key, a NaN.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 1013 + static_cast<uint64_t>(request.distribution));
  const bool special = request.distribution == Distribution::special;
  const bool wide = request.distribution == Distribution::magnitudes;
  const double most = request.t == Dtype::float16 ? 5 : 30;
  const double size = wide ? std::exp2(std::round((2 * random.uniform() - 1) * most)) : 1;
  const auto put = [&](PortIndex port, int64_t count, double by) {
    for (int64_t i = 0; i < count; ++i)
      spec::store_element(request.inputs[port], i, request.t,
                          static_cast<float>(by * random.normal()));
  };
  const int64_t rows = dims.at("P") * dims.at("Hk") * dims.at("L");
  put(kQ, dims.at("B") * dims.at("Hq") * dims.at("M") * dims.at("Dk"), 1 / size);
  put(kKeyPages, rows * dims.at("Dk"), size);
  put(kValuePages, rows * dims.at("Dv"), size);
  if (special) spec::store_element(request.inputs[kQ], 0, request.t, std::nanf(""));
  const int64_t pages = dims.at("P"), entries = dims.at("W"), keys = entries * dims.at("L");
  const int64_t wrong[] = {-1, pages, INT32_MIN, INT32_MAX};
  for (int64_t i = 0; i < dims.at("B") * entries; ++i)
    spec::store_integer(request.inputs[kTable], i, Dtype::int32,
                        special && random.below(4) == 0
                            ? wrong[random.below(std::size(wrong))]
                            : static_cast<int64_t>(random.below(static_cast<uint64_t>(pages))));
  for (int64_t b = 0; b < dims.at("B"); ++b) {
    const auto place = [&] { return static_cast<int64_t>(random.below(keys + 1)); };
    const int64_t end = b % 3 == 0 ? keys : place();
    const int64_t begin = b % 2 == 0 ? 0 : place() / 2;
    spec::store_integer(request.inputs[kEnds], b, Dtype::int32,
                        special && b % 2 == 1 ? keys + 3 : end);
    spec::store_integer(request.inputs[kBegins], b, Dtype::int32, special && b > 1 ? -2 : begin);
  }
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  spec::Reference64 result = Problem(inputs, dtype, dims, scalars[0]).all_rows();
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::ErrorBound bound(const Dims& dims) {
  return {sum_roundings(dims),
          "As attention over W L keys, with A = |scale| sum |q k| + the largest score."};
}

}  // namespace mlx_kd::kernels::attention_paged
