#include "mlx_kd/kernels/attention/paged_keys.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels::attention {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

constexpr const char* kPlaces[] = {"table", "begins", "ends"};

int64_t place_number(const void* from, int64_t i) {
  return spec::load_integer(from, i, Dtype::int32);
}

// (B, 1, M, W L): what each query sees; `there` (B, W) says which entries of the table are pages.
mx::array seen_keys(const spec::Op::Arrays& in, const PagedPorts& ports, int length,
                    const mx::array& there, const mx::Stream& s) {
  const int m = in[ports.q].shape(2), keys = in[ports.table].shape(1) * length;
  const auto by_row = [&](const mx::array& x) { return mx::reshape(x, {-1, 1, 1, 1}, s); };
  const mx::array key = mx::arange(keys, s);
  const mx::array query = mx::reshape(mx::arange(m, s), {1, 1, m, 1}, s);
  const mx::array last =
      mx::add(mx::subtract(by_row(in[ports.ends]), mx::array(m - 1), s), query, s);
  const mx::array seen = mx::logical_and(mx::greater_equal(key, by_row(in[ports.begins]), s),
                                         mx::less(key, last, s), s);
  const mx::array pages = mx::repeat(there, length, 1, s);  // (B, W L)
  return mx::logical_and(seen, mx::expand_dims(pages, std::vector<int>{1, 2}, s), s);
}

// A key that a row sees: its row of the pages, its score and the size of what that is made of.
struct PagedKey {
  int64_t row;
  double score, size;
};

class PagedProblem {
 public:
  PagedProblem(const std::vector<const void*>& in, const PagedPorts& ports, Dtype t,
               const Dims& dims, double scale, const SizedNumbers& k, const SizedNumbers& v)
      : in_(in), ports_(ports), t_(t), dims_(dims), scale_(scale), k_(k), v_(v) {}

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
    const int64_t length = dims_.at("L"), heads = dims_.at("Hk"), entries = dims_.at("W");
    const int64_t key_head = head / (dims_.at("Hq") / heads);
    const int64_t given = place_number(in_[ports_.ends], b);
    const int64_t last = std::min(given - dims_.at("M") + t + 1, std::min(given, entries * length));
    const int64_t query = ((b * dims_.at("Hq") + head) * dims_.at("M") + t) * dims_.at("Dk");
    keys_.clear();
    for (int64_t j = std::max<int64_t>(place_number(in_[ports_.begins], b), 0); j < last; ++j) {
      const int64_t page = place_number(in_[ports_.table], b * entries + j / length);
      if (page < 0 || page >= dims_.at("P")) continue;
      add_key((page * heads + key_head) * length + j % length, query);
    }
  }

  void add_key(int64_t row, int64_t query) {
    const int64_t width = dims_.at("Dk");
    PagedKey key = {row, 0, 0};
    for (int64_t d = 0; d < width; ++d) {
      const double q = spec::load_element(in_[ports_.q], query + d, t_);
      const auto at = static_cast<size_t>(row * width + d);
      key.score += scale_ * (q * k_.value[at]);
      key.size += std::fabs(scale_ * q) * k_.size[at];
    }
    keys_.push_back(key);
  }

  void add_row(spec::Reference64& result) {
    double most = -std::numeric_limits<double>::infinity(), all = 0;
    for (const PagedKey& key : keys_) most = std::max(most, key.score);
    for (PagedKey& key : keys_) all += key.score = std::exp(key.score - most);
    std::vector<KeyShare> shares;
    for (const PagedKey& key : keys_) {
      const double share = key.score / all;
      shares.push_back({share, share * (key.size + std::fabs(most))});
    }
    const int64_t width = dims_.at("Dv");
    const PagedRoundings roundings = paged_roundings(dims_);
    const auto value = [&](size_t i, int64_t d) {
      const auto at = static_cast<size_t>(keys_[i].row * width + d);
      return std::pair(v_.value[at], v_.size[at]);
    };
    append_weighted(shares, width, roundings.of_score / roundings.of_sum, t_, value, result);
  }

  const std::vector<const void*>& in_;
  const PagedPorts& ports_;
  Dtype t_;
  const Dims& dims_;
  double scale_;
  const SizedNumbers &k_, &v_;
  std::vector<PagedKey> keys_;
};

}  // namespace

void check_head_counts(const Dims& dims) {
  if (dims.at("Hk") > 0 && dims.at("Hq") % dims.at("Hk") != 0)
    base::misuse("kernels", "Hq is " + std::to_string(dims.at("Hq")) + " and Hk " +
                                std::to_string(dims.at("Hk")) +
                                ": give a number of key heads that divides that of query heads");
}

void check_places(const char* op, const PagedPorts& ports, std::span<const spec::ArrayView> in,
                  int64_t batch, int64_t entries) {
  const auto check = [&](size_t port, size_t name, std::initializer_list<int64_t> wanted) {
    const auto shape = in[port].shape;
    if (!std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end()))
      throw std::invalid_argument("[" + std::string(op) + "] " + kPlaces[name] + " has shape " +
                                  shape_text(shape) + ": it must be " + shape_text(wanted) +
                                  ", as q and the pages say");
  };
  check(ports.table, 0, {batch, entries});
  check(ports.begins, 1, {batch});
  check(ports.ends, 2, {batch});
}

std::vector<spec::Port> place_ports() {
  return {{.name = kPlaces[0], .shape = shape_of({"B", "W"}), .type = Dtype::int32},
          {.name = kPlaces[1], .shape = shape_of({"B"}), .type = Dtype::int32},
          {.name = kPlaces[2], .shape = shape_of({"B"}), .type = Dtype::int32}};
}

std::vector<spec::DocLine> place_parameters() {
  return {{"table",
           "int32 [B, W]: the pages of each batch row, in order. Keys of a page that is not there "
           "have no weight"},
          {"begins", "int32 [B]: the first key that counts"},
          {"ends", "int32 [B]: how far the keys go, counted from the first page's start"}};
}

Dims as_attention(const Dims& dims) {
  Dims result = dims;
  result.set("S", dims.at("W") * dims.at("L"));
  return result;
}

mx::array gathered(const mx::array& pages, const mx::array& table, const mx::Stream& s) {
  const mx::array taken = mx::take(pages, table, 0, s);  // (B, W, H, L, X)
  const int b = table.shape(0), keys = table.shape(1) * pages.shape(2);
  return mx::reshape(mx::transpose(taken, {0, 2, 1, 3, 4}, s),
                     {b, pages.shape(1), keys, pages.shape(3)}, s);
}

mx::array nearest_pages(const mx::array& table, int pages, const mx::Stream& s) {
  return mx::clip(table, mx::array(0), mx::array(pages - 1), s);
}

mx::array attend_in_mlx(const spec::Op::Arrays& in, const PagedPorts& ports, int pages, int length,
                        const mx::array& keys, const mx::array& values, double scale,
                        const mx::Stream& s) {
  const mx::array &q = in[ports.q], &table = in[ports.table];
  const mx::array there = mx::equal(nearest_pages(table, pages, s), table, s);
  const mx::array seen = seen_keys(in, ports, length, there, s);
  const mx::array y = mx::fast::scaled_dot_product_attention(
      q, keys, values, static_cast<float>(scale), "array", seen, {}, false, s);
  return mx::where(mx::any(seen, 3, true, s), y, mx::zeros(y.shape(), q.dtype(), s), s);
}

void fill_places(const spec::FillRequest& request, const PagedPorts& ports, base::Random& random) {
  const Dims& dims = request.dims;
  const bool special = request.distribution == spec::Distribution::special;
  const int64_t pages = dims.at("P"), entries = dims.at("W"), keys = entries * dims.at("L");
  const int64_t wrong[] = {-1, pages, INT32_MIN, INT32_MAX};
  for (int64_t i = 0; i < dims.at("B") * entries; ++i)
    spec::store_integer(request.inputs[ports.table], i, Dtype::int32,
                        special && random.below(4) == 0
                            ? wrong[random.below(std::size(wrong))]
                            : static_cast<int64_t>(random.below(static_cast<uint64_t>(pages))));
  for (int64_t b = 0; b < dims.at("B"); ++b) {
    const auto place = [&] { return static_cast<int64_t>(random.below(keys + 1)); };
    const int64_t end = b % 3 == 0 ? keys : place();
    const int64_t begin = b % 2 == 0 ? 0 : place() / 2;
    spec::store_integer(request.inputs[ports.ends], b, Dtype::int32,
                        special && b % 2 == 1 ? keys + 3 : end);
    spec::store_integer(request.inputs[ports.begins], b, Dtype::int32,
                        special && b > 1 ? -2 : begin);
  }
}

PagedRoundings paged_roundings(const Dims& dims) {
  return {6 * std::sqrt(static_cast<double>(dims.at("Dk"))) + 10,
          12 * std::sqrt(static_cast<double>(dims.at("W") * dims.at("L"))) + 28};
}

spec::Reference64 attend_in_float64(const std::vector<const void*>& in, const PagedPorts& ports,
                                    Dtype t, const Dims& dims, double scale, const SizedNumbers& k,
                                    const SizedNumbers& v) {
  spec::Reference64 result = PagedProblem(in, ports, t, dims, scale, k, v).all_rows();
  saturate(result, t, paged_roundings(dims).of_sum);
  return result;
}

}  // namespace mlx_kd::kernels::attention
