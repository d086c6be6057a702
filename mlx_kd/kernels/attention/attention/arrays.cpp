#include "mlx_kd/kernels/attention/attention/arrays.h"

#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/utils.h>

#include <optional>
#include <stdexcept>

#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels::attention {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;

constexpr const char* kPorts[] = {"q", "k", "v", "mask", "sinks", "bias"};

constexpr PortShapes kShapes = {"attention", kPorts, "q and k say"};

// The shape of the scores, without a copy; a bias in the type of q.
mx::array over_scores(const mx::array& array, PortIndex port, const spec::Op::Arrays& in,
                      const mx::Stream& s) {
  const mx::Shape scores = {in[kQ].shape(0), in[kQ].shape(1), in[kQ].shape(2), in[kK].shape(2)};
  const auto axes = static_cast<size_t>(array.ndim());
  bool fits = axes >= 1 && axes <= scores.size();
  for (size_t i = 0; i < axes && fits; ++i) {
    const auto extent = array.shape(static_cast<int>(i));
    fits = extent == 1 || extent == scores[scores.size() - axes + i];
  }
  if (!fits)
    throw std::invalid_argument("[attention] " + std::string(kPorts[port]) + " has shape " +
                                shape_text(array.shape()) + ": it must broadcast to " +
                                shape_text(scores));
  const bool converts = port == kBias && array.dtype() != in[kQ].dtype();
  return mx::broadcast_to(converts ? mx::astype(array, in[kQ].dtype(), s) : array, scores, s);
}

// Of the scores (M, S): what the limits leave; none where there are no limits.
std::optional<mx::array> seen_keys(const spec::Op::Arrays& in, bool causal, int window,
                                   const mx::Stream& s) {
  const int t = in[kQ].shape(2), keys = in[kK].shape(2);
  const mx::array position = mx::expand_dims(mx::arange(keys - t, keys, s), 1, s);
  const mx::array key = mx::expand_dims(mx::arange(keys, s), 0, s);
  std::optional<mx::array> seen;
  if (causal) seen = mx::greater_equal(position, key, s);
  if (window > 0) {
    const mx::array near = mx::less(position, mx::add(key, mx::array(window), s), s);
    seen = seen ? mx::logical_and(*seen, near, s) : near;
  }
  return seen;
}

}  // namespace

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const PortIndex port : {kQ, kK, kV})
    if (in[port].shape.size() != 4) kShapes.refuse(port, in[port], "of 4 axes: (B, H, M, D)");
  const auto q = in[kQ].shape, k = in[kK].shape;
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kDk] = q[3];
  dims[kHk] = k[1], dims[kS] = k[2], dims[kDv] = in[kV].shape[3];
  if (dims[kHk] == 0 || dims[kHq] % dims[kHk] != 0)
    kShapes.refuse(kK, in[kK],
                   "of a number of heads that divides the " + std::to_string(q[1]) + " of q");
  kShapes.check(kK, in[kK], {dims[kB], dims[kHk], dims[kS], dims[kDk]});
  kShapes.check(kV, in[kV], {dims[kB], dims[kHk], dims[kS], dims[kDv]});
  dims[kHasMask] = !is_left_out(in[kMask]);
  dims[kHasSinks] = !is_left_out(in[kSinks]);
  dims[kHasBias] = !is_left_out(in[kBias]);
  if (dims[kHasMask]) kShapes.check(kMask, in[kMask], {dims[kB], dims[kHq], dims[kM], dims[kS]});
  if (dims[kHasBias]) kShapes.check(kBias, in[kBias], {dims[kB], dims[kHq], dims[kM], dims[kS]});
  if (dims[kHasSinks]) kShapes.check(kSinks, in[kSinks], {dims[kHq]});
}

spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mx::Stream& s) {
  if (is_left_out(in[kMask]) && is_left_out(in[kBias])) return in;
  spec::Op::Arrays out = in;
  if (!is_left_out(out[kMask]) && out[kMask].dtype() != mx::bool_) {
    if (!is_left_out(out[kBias]))
      throw std::invalid_argument(
          "[attention] mask is added to the scores, and so is bias: give one of the two, or their "
          "sum");
    std::swap(out[kMask], out[kBias]);
  }
  for (const PortIndex port : {kQ, kK})
    if (in[port].ndim() != 4) return out;  // refused by its shape
  for (const PortIndex port : {kMask, kBias})
    if (!is_left_out(out[port])) out[port] = over_scores(out[port], port, in, s);
  return out;
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const auto scale = static_cast<float>(numbers[0]);
  const bool causal = numbers[1] > 0;
  const int window = static_cast<int>(numbers[2]);
  std::optional<mx::array> mask, sinks;
  if (!is_left_out(in[kSinks])) sinks = in[kSinks];
  const bool any_mask = !is_left_out(in[kMask]), any_bias = !is_left_out(in[kBias]);
  if (causal && window <= 0 && !any_mask && !any_bias)
    return {mx::fast::scaled_dot_product_attention(in[kQ], in[kK], in[kV], scale, "causal", {},
                                                   sinks, false, s)};
  if (any_mask) mask = in[kMask];
  if (const auto seen = seen_keys(in, causal, window, s))
    mask = mask ? mx::logical_and(*mask, *seen, s) : *seen;
  if (any_bias && mask) {
    const mx::array least(mx::finfo(in[kBias].dtype()).min, in[kBias].dtype());
    mask = mx::where(*mask, in[kBias], least, s);
  } else if (any_bias) {
    mask = in[kBias];
  }
  return {mx::fast::scaled_dot_product_attention(in[kQ], in[kK], in[kV], scale, mask ? "array" : "",
                                                 mask, sinks, false, s)};
}

}  // namespace mlx_kd::kernels::attention
