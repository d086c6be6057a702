#include "mlx_kd/evaluate/proof/check_output.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "mlx_kd/spec/op/judge.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Dtype;

constexpr int64_t kBlock = 256;
constexpr int kLanes = 8;
constexpr auto kUnchecked = static_cast<float>(spec::kUnchecked);  // bound of such an element

// Storage to float for whole blocks, in integer code that compilers vectorise for any machine.
void widen(const void* data, int64_t begin, int64_t n, Dtype dtype, float* out) {
  if (dtype == Dtype::float32) {
    std::memcpy(out, static_cast<const float*>(data) + begin, static_cast<size_t>(n) * 4);
    return;
  }
  const uint16_t* bits = static_cast<const uint16_t*>(data) + begin;
  if (dtype == Dtype::bfloat16) {
    for (int64_t i = 0; i < n; ++i) out[i] = std::bit_cast<float>(uint32_t{bits[i]} << 16);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = (bits[i] & 0x7fffu) << 13, sign = (bits[i] & 0x8000u) << 16;
    // 2^112 moves the exponent from float16's bias to float32's, subnormals included.
    const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    out[i] = std::bit_cast<float>(finite | special | sign);
  }
}

struct Lanes {
  float used[kLanes] = {}, abs[kLanes] = {}, rel[kLanes] = {};
};

void raise(float* lanes, const float* values) {
  for (int64_t i = 0; i < kBlock; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
}

float largest(const float* lanes) {
  return *std::max_element(lanes, lanes + kLanes);
}

// A whole block, all of it right by the plain rule: true, and the errors are counted. Anything that
// is not finite makes a comparison false.
bool plain_block(const Compared& what, int64_t begin, Lanes& lanes) {
  float y[kBlock], m[kBlock], used[kBlock], abs[kBlock], rel[kBlock];
  widen(what.output, begin, kBlock, what.dtype, y);
  widen(what.mlx, begin, kBlock, what.dtype, m);
  const double* y64 = what.y64 + begin;
  const float* bound = what.bound + begin;
  for (int64_t i = 0; i < kBlock; ++i)
    used[i] = static_cast<float>(std::fabs(static_cast<double>(y[i]) - y64[i])) / bound[i];
  for (int64_t i = 0; i < kBlock; ++i) {
    const float magnitude = std::fabs(m[i]);
    abs[i] = bound[i] < kUnchecked ? std::fabs(y[i] - m[i]) : 0;
    rel[i] = abs[i] / (magnitude > 1e-6f ? magnitude : 1e-6f);
  }
  int doubtful = 0;
  for (int64_t i = 0; i < kBlock; ++i)
    doubtful |= static_cast<int>(!(used[i] <= 1.0f)) | static_cast<int>(!(m[i] - m[i] == 0.0f));
  if (doubtful) return false;
  raise(lanes.used, used), raise(lanes.abs, abs), raise(lanes.rel, rel);
  return true;
}

struct Element {
  double y, mlx, y64, bound;
};

Element element_at(const Compared& what, int64_t i) {
  return {spec::load_element(what.output, i, what.dtype),
          spec::load_element(what.mlx, i, what.dtype), what.y64[i], what.bound[i]};
}

bool within_bound(const Element& e) {
  return std::fabs(e.y - e.y64) <= e.bound;
}

// y64 and its bound reach past the largest finite number on the side of `sign`.
bool may_overflow(const Element& e, double sign, Dtype dtype) {
  return e.y64 * sign + e.bound >= spec::largest_finite(dtype);
}

bool is_right(const Element& e, Dtype dtype) {
  if (std::isnan(e.mlx) || std::isnan(e.y)) return std::isnan(e.mlx) && std::isnan(e.y);
  if (std::isinf(e.y)) return e.y == e.mlx || may_overflow(e, std::copysign(1, e.y), dtype);
  if (std::isinf(e.mlx)) return within_bound(e) && may_overflow(e, std::copysign(1, e.mlx), dtype);
  return within_bound(e);
}

void count_errors(const Element& e, Comparison& result) {
  if (!std::isfinite(e.y) || !std::isfinite(e.mlx) || !std::isfinite(e.y64)) return;
  if (!(e.bound < kUnchecked)) return;
  const double abs = std::fabs(e.y - e.mlx);
  result.bound_used = std::max(result.bound_used, std::fabs(e.y - e.y64) / e.bound);
  result.max_abs_err = std::max(result.max_abs_err, abs);
  result.max_rel_err = std::max(result.max_rel_err, abs / std::max(std::fabs(e.mlx), 1e-6));
}

// Elements one by one, by the whole rule.
void careful(const Compared& what, int64_t begin, int64_t end, Comparison& result) {
  for (int64_t i = begin; i < end; ++i) {
    const Element e = element_at(what, i);
    count_errors(e, result);
    if (result.first_wrong < 0 && !is_right(e, what.dtype)) result.first_wrong = i;
  }
}

}  // namespace

Comparison compare(const Compared& what) {
  Comparison result;
  Lanes lanes;
  int64_t begin = 0;
  for (; begin + kBlock <= what.count; begin += kBlock)
    if (!plain_block(what, begin, lanes)) careful(what, begin, begin + kBlock, result);
  careful(what, begin, what.count, result);
  result.bound_used = std::max(result.bound_used, double{largest(lanes.used)});
  result.max_abs_err = std::max(result.max_abs_err, double{largest(lanes.abs)});
  result.max_rel_err = std::max(result.max_rel_err, double{largest(lanes.rel)});
  const auto bytes = static_cast<size_t>(what.count * spec::size_of(what.dtype));
  result.same_bits = std::memcmp(what.output, what.mlx, bytes) == 0;
  return result;
}

std::string explain(const Compared& what, int64_t index) {
  const Element e = element_at(what, index);
  char text[200];
  std::snprintf(text, sizeof text,
                "element %lld is %.9g, float64 says %.9g with a bound of %.3g, MLX says %.9g",
                static_cast<long long>(index), e.y, e.y64, e.bound, e.mlx);
  return text;
}

std::string explain_exact(const void* made, const void* expected, int64_t index, spec::Dtype type) {
  char text[160];
  std::snprintf(text, sizeof text, "element %lld is %.9g, expected %.9g bit for bit",
                static_cast<long long>(index), spec::load_number(made, index, type),
                spec::load_number(expected, index, type));
  return text;
}

}  // namespace mlx_kd::evaluate
