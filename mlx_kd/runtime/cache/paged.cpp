// Paged caches: a table of blocks in a pool that copies of the cache share. A shared block is
// copied before one of them writes to it.
#include <algorithm>

#include "mlx_kd/runtime/cache/rows.h"
#include "mlx_kd/runtime/call/ops.h"

namespace mlx_kd::runtime::cache {
namespace {

namespace mx = mlx::core;

// Pages [blocks, H, block_size, D], and how many caches use each.
struct Pool {
  explicit Pool(int blocks) : users(static_cast<size_t>(blocks), 0) {
    for (int i = blocks; i-- > 0;) free.push_back(i);
  }

  int take() {
    const int block = free.back();
    free.pop_back();
    users[static_cast<size_t>(block)] = 1;
    return block;
  }
  void drop(int block) {
    if (--users[static_cast<size_t>(block)] == 0) free.push_back(block);
  }
  bool is_shared(int block) const { return users[static_cast<size_t>(block)] > 1; }

  Planes keys, values;  // none before the first token
  std::vector<int> users, free;
};

class Paged final : public Cache {
 public:
  Paged(std::shared_ptr<Pool> pool, const Options& options)
      : pool_(std::move(pool)), coding_(coding_of(options)), block_size_(options.block_size) {}
  Paged(const Paged& other)
      : pool_(other.pool_),
        coding_(other.coding_),
        block_size_(other.block_size_),
        table_(other.table_),
        offset_(other.offset_) {
    for (const int block : table_) ++pool_->users[static_cast<size_t>(block)];
  }
  Paged& operator=(const Paged&) = delete;
  ~Paged() override {
    for (const int block : table_) pool_->drop(block);
  }

  void append(const mx::array& keys, const mx::array& values, mx::StreamOrDevice s) override {
    check_new_rows(keys, values);
    check_rows(keys, values);
    const mx::Stream stream = mx::to_stream(s);
    const int count = keys.shape(2);
    check_free(count);
    const Planes k = coding_.encode(keys, stream), v = coding_.encode(values, stream);
    if (pool_->keys.empty()) pool_->keys = pages(k, stream), pool_->values = pages(v, stream);
    make_own(count, stream);
    for (size_t i = 0; i < k.size(); ++i) {
      put(pool_->keys[i], k[i], stream);
      put(pool_->values[i], v[i], stream);
    }
    offset_ += count;
  }

  mx::array attention(const mx::array& q, double scale, mx::StreamOrDevice s) const override {
    if (q.ndim() != 4 || q.shape(0) != 1 || q.shape(2) < 1 || q.shape(2) > offset_)
      throw std::invalid_argument("[cache] q has shape " + shape_text(q.shape()) +
                                  " and the cache " + std::to_string(offset_) +
                                  " tokens: give [1, Hq, T, D] of its last T");
    const mx::array table(table_.begin(), {1, static_cast<int>(table_.size())}, mx::int32);
    const mx::array begins({0}, mx::int32), ends({offset_}, mx::int32);
    const Planes &k = pool_->keys, &v = pool_->values;
    if (!coding_.is_coded) return attention_paged(q, k[0], v[0], table, begins, ends, scale, s);
    return attention_paged_quantized(q, k[0], k[1], k[2], v[0], v[1], v[2], table, begins, ends,
                                     scale, coding_.bits, coding_.group_size, s);
  }

  int trim(int n) override {
    check_trim(n);
    n = std::min(n, offset_);
    offset_ -= n;
    while (static_cast<int>(table_.size()) > blocks_of(offset_)) {
      pool_->drop(table_.back());
      table_.pop_back();
    }
    return n;
  }

  std::unique_ptr<Cache> copy() const override { return std::make_unique<Paged>(*this); }

  // Of all that use the pages.
  std::vector<mx::array> state() const override {
    Planes all = pool_->keys;
    all.insert(all.end(), pool_->values.begin(), pool_->values.end());
    return all;
  }

  int offset() const override { return offset_; }

 private:
  int blocks_of(int tokens) const { return (tokens + block_size_ - 1) / block_size_; }
  // Whether the next token goes into a block that another cache uses.
  bool writes_to_shared() const {
    return offset_ % block_size_ != 0 && pool_->is_shared(table_.back());
  }

  void check_rows(const mx::array& keys, const mx::array& values) const {
    if (keys.shape(0) != 1)
      throw std::invalid_argument("[cache] keys have shape " + shape_text(keys.shape()) +
                                  ": a paged cache takes [1, H, T, D], one sequence");
    coding_.check_widths(keys, values);
    if (pool_->keys.empty()) return;
    const mx::Shape wanted = {pool_->keys[0].shape(1), coding_.width_of(pool_->keys),
                              coding_.width_of(pool_->values)};
    const mx::Shape given = {keys.shape(1), keys.shape(3), values.shape(3)};
    if (wanted != given || coding_.type_of(pool_->keys) != keys.dtype())
      throw std::invalid_argument("[cache] heads and widths of new keys and values are " +
                                  shape_text(given) + ", and those of the pages are " +
                                  shape_text(wanted) +
                                  ", or their type is another: use a cache for each layer");
  }

  void check_free(int count) const {
    const size_t needed = static_cast<size_t>(blocks_of(offset_ + count)) - table_.size() +
                          (writes_to_shared() ? 1 : 0);
    if (needed > pool_->free.size())
      throw PoolFull("[cache] " + std::to_string(needed) + " more blocks of " +
                     std::to_string(block_size_) + " tokens are needed, and " +
                     std::to_string(pool_->free.size()) + " of " +
                     std::to_string(pool_->users.size()) +
                     " are free: make the pool larger (max_size), or drop caches that use it");
  }

  // Of zeros, for rows like these.
  Planes pages(const Planes& rows, const mx::Stream& s) const {
    const int blocks = static_cast<int>(pool_->users.size());
    Planes made;
    for (const mx::array& x : rows)
      made.push_back(mx::zeros({blocks, x.shape(1), block_size_, x.shape(3)}, x.dtype(), s));
    return made;
  }

  // Blocks that no other cache uses, for so many more tokens.
  void make_own(int count, const mx::Stream& s) {
    if (writes_to_shared()) {
      const int old = table_.back(), own = pool_->take();
      for (Planes* planes : {&pool_->keys, &pool_->values})
        for (mx::array& one : *planes) {
          const mx::Shape& shape = one.shape();
          const mx::array page =
              mx::slice(one, {old, 0, 0, 0}, {old + 1, shape[1], shape[2], shape[3]}, s);
          put_page(one, page, own, 0, s);
        }
      pool_->drop(old);
      table_.back() = own;
    }
    while (static_cast<int>(table_.size()) < blocks_of(offset_ + count))
      table_.push_back(pool_->take());
  }

  // Rows [1, H, n, D] from row `at` of a page on.
  static void put_page(mx::array& pages, const mx::array& rows, int block, int at,
                       const mx::Stream& s) {
    const mx::Shape& shape = pages.shape();
    const mx::Shape from = {block, 0, at, 0};
    const mx::Shape to = {block + 1, shape[1], at + rows.shape(2), shape[3]};
    pages = mx::slice_update(pages, rows, from, to, s);
  }

  void put(mx::array& pages, const mx::array& rows, const mx::Stream& s) const {
    for (int t = 0; t < rows.shape(2);) {
      const int at = (offset_ + t) % block_size_;
      const int count = std::min(block_size_ - at, rows.shape(2) - t);
      const mx::array some =
          mx::slice(rows, {0, 0, t, 0}, {1, rows.shape(1), t + count, rows.shape(3)}, s);
      put_page(pages, some, table_[static_cast<size_t>((offset_ + t) / block_size_)], at, s);
      t += count;
    }
  }

  std::shared_ptr<Pool> pool_;
  Coding coding_;
  int block_size_;
  std::vector<int> table_;
  int offset_ = 0;
};

}  // namespace

std::unique_ptr<Cache> make_paged(const Options& options) {
  const int tokens = options.max_size > 0 ? options.max_size : 4096;
  const int blocks = (tokens + options.block_size - 1) / options.block_size;
  return std::make_unique<Paged>(std::make_shared<Pool>(blocks), options);
}

}  // namespace mlx_kd::runtime::cache
