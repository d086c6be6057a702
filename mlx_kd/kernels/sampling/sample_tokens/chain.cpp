#include "mlx_kd/kernels/sampling/sample_tokens/chain.h"

#include <mlx/mlx.h>

#include <cmath>
#include <limits>

namespace mlx_kd::kernels::sample_tokens {
namespace {

namespace mx = mlx::core;

mx::array masked(const mx::array& drop, const mx::array& x, const mx::Stream& s) {
  return mx::where(drop, mx::array(-std::numeric_limits<float>::infinity(), x.dtype()), x, s);
}

// `p`: a number, or a column of one for each row.
mx::array top_p_of(const mx::array& x, const mx::array& p, const mx::Stream& s) {
  const mx::array sorted = mx::sort(x, -1, s);
  const mx::array probabilities = mx::exp(mx::astype(sorted, mx::float32, s), s);
  const mx::array above = mx::cumsum(probabilities, -1, true, false, s);
  const mx::array total = mx::add(mx::slice(above, {0, 0}, {above.shape(0), 1}, s),
                                  mx::slice(probabilities, {0, 0}, {above.shape(0), 1}, s), s);
  const mx::array dropped =
      mx::sum(mx::greater_equal(above, mx::multiply(p, total, s), s), -1, true, s);
  return masked(mx::less(x, mx::take_along_axis(sorted, dropped, -1, s), s), x, s);
}

mx::array min_p_of(const mx::array& x, const mx::array& log_min_p, int kept, const mx::Stream& s) {
  const mx::array least = mx::add(mx::max(x, -1, true, s), mx::astype(log_min_p, x.dtype(), s), s);
  mx::array drop = mx::less(x, least, s);
  if (kept > 1 && kept <= x.shape(-1)) {
    const mx::array order = mx::argpartition(x, -kept, -1, s);
    const mx::array kept_ids =
        mx::slice(order, {0, x.shape(1) - kept}, {x.shape(0), x.shape(1)}, s);
    drop = mx::put_along_axis(drop, kept_ids, mx::array(false), -1, s);
  }
  return masked(drop, x, s);
}

mx::array xtc_of(const mx::array& x, const mx::array& special, double probability, double threshold,
                 const mx::array& key, const mx::Stream& s) {
  const mx::array p = mx::softmax(x, -1, false, s);
  const mx::array above = mx::greater(p, mx::array(static_cast<float>(threshold), p.dtype()), s);
  const mx::array infinity(std::numeric_limits<float>::infinity(), p.dtype());
  const mx::array least = mx::min(mx::where(above, p, infinity, s), -1, true, s);
  mx::array drop = mx::greater(p, least, s);
  if (special.size() > 0) {
    const mx::array ids = mx::broadcast_to(special, {x.shape(0), special.shape(0)}, s);
    drop = mx::put_along_axis(drop, ids, mx::array(false), -1, s);
  }
  const mx::array stays = mx::greater(mx::random::uniform({}, mx::float32, key, s),
                                      mx::array(static_cast<float>(probability)), s);
  return mx::where(stays, x, masked(drop, x, s), s);
}

mx::array top_k_of(const mx::array& x, int top, const mx::Stream& s) {
  const mx::array order = mx::argpartition(mx::negative(x, s), top - 1, -1, s);
  const mx::array rest = mx::slice(order, {0, top}, x.shape(), s);
  return mx::put_along_axis(x, rest, mx::array(-std::numeric_limits<float>::infinity(), x.dtype()),
                            -1, s);
}

// The keys of the draws, from a state or as given.
class Keys {
 public:
  Keys(const mx::array& given, const mx::Stream& s) : given_(given), s_(s) {}

  mx::array next() {
    if (given_.ndim() == 2) {
      const int at = std::min(taken_++, given_.shape(0) - 1);
      return mx::reshape(mx::slice(given_, {at, 0}, {at + 1, 2}, s_), {2}, s_);
    }
    const auto [state, key] = mx::random::split(given_, s_);
    given_ = state;
    return key;
  }

 private:
  mx::array given_;
  mx::Stream s_;
  int taken_ = 0;
};

mx::array column(const mx::array& settings, int at, const mx::Stream& s) {
  return mx::slice(settings, {0, at}, {settings.shape(0), at + 1}, s);
}

spec::Op::Arrays result(const mx::array& logprobs, const mx::array& token, const mx::Shape& shape,
                        const mx::Stream& s) {
  const mx::array chosen =
      mx::take_along_axis(logprobs, mx::reshape(token, {token.shape(0), 1}, s), -1, s);
  return {mx::reshape(token, shape, s), mx::reshape(mx::astype(chosen, mx::float32, s), shape, s)};
}

mx::array filtered(mx::array x, const spec::Op::Arrays& in, std::span<const double> numbers,
                   Keys& keys, const mx::Stream& s) {
  if (numbers[1] > 0 && numbers[1] < 1)
    x = top_p_of(x, mx::array(static_cast<float>(numbers[1])), s);
  if (numbers[2] != 0)
    x = min_p_of(x, mx::array(static_cast<float>(std::log(numbers[2]))),
                 static_cast<int>(numbers[3]), s);
  if (numbers[5] > 0) x = xtc_of(x, in[2], numbers[5], numbers[6], keys.next(), s);
  if (numbers[4] > 0 && numbers[4] < x.shape(-1)) x = top_k_of(x, static_cast<int>(numbers[4]), s);
  return x;
}

}  // namespace

spec::Op::Arrays chain(const spec::Op::Arrays& in, std::span<const double> numbers,
                       const mx::Stream& s) {
  const mx::Shape rows(in[0].shape().begin(), in[0].shape().end() - 1);
  const mx::array logits = mx::reshape(in[0], {-1, in[0].shape(-1)}, s);
  const bool is_normalised = numbers[8] != 0;  // after the scalars and top
  const mx::array logprobs =
      is_normalised ? logits : mx::subtract(logits, mx::logsumexp(logits, -1, true, s), s);
  Keys keys(in[1], s);
  if (in[3].size() > 0) {
    mx::array x = top_p_of(logprobs, column(in[3], 1, s), s);
    x = min_p_of(x, column(in[3], 2, s), 1, s);
    x = mx::multiply(x, mx::astype(column(in[3], 0, s), x.dtype(), s), s);
    return result(logprobs, mx::random::categorical(x, -1, keys.next(), s), rows, s);
  }
  if (numbers[0] == 0) return result(logprobs, mx::argmax(logprobs, -1, false, s), rows, s);
  mx::array x = filtered(logprobs, in, numbers, keys, s);
  x = mx::multiply(x, mx::array(static_cast<float>(1 / numbers[0]), x.dtype()), s);
  return result(logprobs, mx::random::categorical(x, -1, keys.next(), s), rows, s);
}

}  // namespace mlx_kd::kernels::sample_tokens
