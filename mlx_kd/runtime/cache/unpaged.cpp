// Contiguous and rotating caches, plain and quantised.
//
// Both write a token at a row of their planes. A ring writes several tokens by joining them behind
// those that are there, in the order of time, as mlx-lm's rotating caches do: afterwards it may be
// longer than max_size, and the next single token cuts it.
#include <algorithm>

#include "mlx_kd/runtime/cache/rows.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime::cache {
namespace {

namespace mx = mlx::core;

constexpr int kStep = 256;  // rows that a cache grows by

class Unpaged final : public Cache {
 public:
  explicit Unpaged(const Options& options) : options_(options), coding_(coding_of(options)) {}

  void append(const mx::array& keys, const mx::array& values, mx::StreamOrDevice s) override {
    check_new_rows(keys, values);
    check_rows(keys, values);
    const mx::Stream stream = mx::to_stream(s);
    const int count = keys.shape(2);
    if (rotates() && count > 1) return join_several(keys, values, stream);
    rotates() ? make_room_in_ring(keys, values, stream) : make_room(keys, values, stream);
    write(rotates() ? next_ : offset_, keys, values, stream);
    offset_ += count;
    next_ += count;
  }

  mx::array attention(const mx::array& q, double scale, mx::StreamOrDevice s) const override {
    const int queries = q.ndim() == 4 ? q.shape(2) : 0;
    if (queries < 1 || queries > offset_)
      throw std::invalid_argument("[cache] q has shape " + shape_text(q.shape()) +
                                  " and the cache " + std::to_string(offset_) +
                                  " tokens: give [B, Hq, T, D] of its last T");
    const mx::Stream stream = mx::to_stream(s);
    const Planes k = filled(keys_, stream), v = filled(values_, stream);
    const int causal = queries > 1, window = rotates() && queries > 1 ? options_.max_size : 0;
    if (!coding_.is_coded)
      return runtime::attention(q, k[0], v[0], std::nullopt, std::nullopt, std::nullopt, scale,
                                causal, window, stream);
    return attention_quantized(
        q, k[0], k[1], k[2], v[0], v[1], v[2],
        window ? std::optional(seen(queries, rows_of(k), stream)) : std::nullopt, scale, causal,
        options_.bits, options_.group_size, stream);
  }

  int trim(int n) override {
    check_trim(n);
    if (rotates() && offset_ >= options_.max_size) return 0;
    n = std::min(n, offset_);
    offset_ -= n;
    next_ -= n;
    return n;
  }

  std::unique_ptr<Cache> copy() const override { return std::make_unique<Unpaged>(*this); }

  std::vector<mx::array> state() const override {
    Planes all = keys_;
    all.insert(all.end(), values_.begin(), values_.end());
    return all;
  }

  int offset() const override { return offset_; }

 private:
  bool rotates() const {
    return options_.kind == Kind::rotating || options_.kind == Kind::quantized_rotating;
  }

  void check_rows(const mx::array& keys, const mx::array& values) const {
    coding_.check_widths(keys, values);
    if (keys_.empty()) return;
    const mx::Shape& there = keys_.front().shape();
    const mx::Shape wanted = {there[0], there[1], coding_.width_of(keys_),
                              coding_.width_of(values_)};
    const mx::Shape given = {keys.shape(0), keys.shape(1), keys.shape(3), values.shape(3)};
    if (wanted != given || keys.dtype() != coding_.type_of(keys_))
      throw std::invalid_argument(
          "[cache] batch, heads and widths of new keys and values are " + shape_text(given) +
          ", and those of the cache are " + shape_text(wanted) +
          ", or their type is another: use a cache for each layer and each model");
  }

  Planes filled(const Planes& planes, const mx::Stream& s) const {
    return cut(planes, 0, std::min(offset_, rows_of(planes)), s);
  }

  // (queries, keys): those up to its own that are not older than max_size, as mlx-lm masks them.
  mx::array seen(int queries, int keys, const mx::Stream& s) const {
    const mx::array own = mx::reshape(mx::arange(keys - queries, keys, s), {1, 1, queries, 1}, s);
    const mx::array key = mx::reshape(mx::arange(keys, s), {1, 1, 1, keys}, s);
    return mx::greater(key, mx::subtract(own, mx::array(options_.max_size), s), s);
  }

  // By MLX's operators, in place too, where the settings do not ask for ours.
  void put(Planes& planes, int at, const mx::array& rows, const mx::Stream& s) const {
    const Planes added = coding_.encode(rows, s);
    for (size_t i = 0; i < planes.size(); ++i) {
      mx::Shape from = {0, 0, at, 0}, to = planes[i].shape();
      to[2] = at + rows.shape(2);
      planes[i] = mx::slice_update(planes[i], added[i], from, to, s);
    }
  }

  void write(int at, const mx::array& keys, const mx::array& values, const mx::Stream& s) {
    if (!by_kernel_) {
      put(keys_, at, keys, s);
      put(values_, at, values, s);
      return;
    }
    if (!coding_.is_coded) {
      const auto written = kv_append(keys_[0], values_[0], keys, values, at, s);
      keys_ = {written.first}, values_ = {written.second};
      return;
    }
    const auto [kc, ks, kb, vc, vs, vb] =
        kv_append_quantized(keys_[0], keys_[1], keys_[2], values_[0], values_[1], values_[2], keys,
                            values, at, options_.bits, options_.group_size, s);
    keys_ = {kc, ks, kb}, values_ = {vc, vs, vb};
  }

  void start(const mx::array& keys, const mx::array& values, int rows, const mx::Stream& s) {
    const auto one = [&](const mx::array& x) {
      return coding_.encode(mx::slice(x, {0, 0, 0, 0}, {x.shape(0), x.shape(1), 1, x.shape(3)}, s),
                            s);
    };
    keys_ = spare(one(keys), rows, s);
    values_ = spare(one(values), rows, s);
    ask_settings();
  }

  // When a cache grows, not at each token.
  void ask_settings() {
    const std::vector<std::string> names = settings().default_kernels;
    const char* const name = coding_.is_coded ? "kv_append_quantized" : "kv_append";
    by_kernel_ = std::find(names.begin(), names.end(), name) != names.end();
  }

  void make_room(const mx::array& keys, const mx::array& values, const mx::Stream& s) {
    const int count = keys.shape(2), more = (count + kStep - 1) / kStep * kStep;
    if (keys_.empty()) return start(keys, values, more, s);
    if (offset_ + count <= rows_of(keys_)) return;
    for (Planes* planes : {&keys_, &values_})
      *planes = join({filled(*planes, s), spare(*planes, more, s)}, s);
    ask_settings();
  }

  void make_room_in_ring(const mx::array& keys, const mx::array& values, const mx::Stream& s) {
    const int size = options_.max_size, more = std::min(kStep, size - offset_);
    if (keys_.empty()) {
      start(keys, values, more, s);
      next_ = 0;
    } else if (offset_ >= rows_of(keys_) && rows_of(keys_) < size) {
      for (Planes* planes : {&keys_, &values_})
        *planes = join({*planes, spare(*planes, more, s)}, s);
      next_ = offset_;
    }
    if (const int surplus = rows_of(keys_) - size; surplus > 0) {
      for (Planes* planes : {&keys_, &values_}) *planes = without(*planes, surplus, s);
      next_ = size;
    }
    if (next_ == size) next_ = options_.keep;
  }

  // In the order of time, without spare rows.
  Planes in_order(const Planes& planes, const mx::Stream& s) const {
    const int rows = rows_of(planes), keep = options_.keep;
    if (next_ == rows) return planes;
    if (next_ >= offset_) return cut(planes, 0, next_, s);
    return join({cut(planes, 0, keep, s), cut(planes, next_, rows, s), cut(planes, keep, next_, s)},
                s);
  }

  // Without the `count` oldest rows after the kept ones.
  Planes without(const Planes& planes, int count, const mx::Stream& s) const {
    if (count <= 0) return planes;
    const int keep = options_.keep;
    return join({cut(planes, 0, keep, s), cut(planes, keep + count, rows_of(planes), s)}, s);
  }

  // Rows that no new query sees are dropped.
  void join_several(const mx::array& keys, const mx::array& values, const mx::Stream& s) {
    const auto joined = [&](const Planes& there, const mx::array& x) {
      if (there.empty()) return coding_.encode(x, s);
      const Planes ordered = in_order(there, s);
      return join(
          {without(ordered, rows_of(ordered) - options_.max_size + 1, s), coding_.encode(x, s)}, s);
    };
    Planes new_keys = joined(keys_, keys), new_values = joined(values_, values);
    keys_ = std::move(new_keys), values_ = std::move(new_values);
    offset_ += keys.shape(2);
    next_ = rows_of(keys_);
  }

  Options options_;
  Coding coding_;
  Planes keys_, values_;
  bool by_kernel_ = false;
  int offset_ = 0;
  int next_ = 0;  // of a ring: where the next token goes
};

}  // namespace

std::unique_ptr<Cache> make_unpaged(const Options& options) {
  return std::make_unique<Unpaged>(options);
}

}  // namespace mlx_kd::runtime::cache
