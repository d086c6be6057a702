#include "mlx_kd/kernels/positions/qk_norm_rope_append_quantized/judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/positions/appended_heads.h"

namespace mlx_kd::kernels::qk_norm_rope_append_quantized {
namespace {

using spec::Dims;
using spec::Dtype;

// Bytes of a row of codes (part 0) and of its scales or biases (1, 2).
int64_t row_bytes(const Dims& dims, const char* width, size_t part, Dtype t) {
  const int64_t elements = dims.at(width);
  return part == 0 ? elements * dims.at("bits") / 8
                   : elements / dims.at("group_size") * spec::size_of(t);
}

int64_t all_rows(const Dims& dims) {
  return dims.at("B") * dims.at("Hk") * dims.at("S");
}

// Where the new rows go, or -1.
int64_t row_of(const std::vector<const void*>& in, const Dims& dims) {
  const int64_t row = spec::load_integer(in[kRow], 0, Dtype::int32);
  return row >= 0 && row <= dims.at("S") - dims.at("M") ? row : -1;
}

// Unit roundoff, doubled.
double roundoff(Dtype t) {
  return t == Dtype::float32 ? 0x1p-23 : t == Dtype::float16 ? 0x1p-10 : 0x1p-7;
}

// One group of a new key: its codes, and what the elements are in float64.
struct Group {
  const std::byte *codes, *scales, *biases;
  int64_t g, group, bits;
  Dtype t;
  const spec::Reference64& wanted;
  int64_t first;  // of the elements in `wanted`
};

struct Worst {
  double element = 0, mean = 0;
};

// Errors of the elements, and their mean, in what a code allows. Ends of a group are off by at most
// a step, others by half a step; scale and bias are rounded.
void judge(const Group& of, double accumulated, Worst& worst) {
  const double scale = spec::load_element(of.scales, of.g, of.t);
  const double bias = spec::load_element(of.biases, of.g, of.t);
  const auto begin = of.wanted.y.begin() + of.first;
  const auto [low, high] = std::minmax_element(begin, begin + of.group);
  const double step = std::max((*high - *low) / ((1 << of.bits) - 1), 1e-7);
  double errors = 0, slack = 0;
  for (int64_t i = 0; i < of.group; ++i) {
    const auto at = static_cast<size_t>(of.first + i);
    const int64_t bit = (of.g * of.group + i) * of.bits;
    const double code = static_cast<int>(of.codes[bit / 8]) >> (bit % 8) & ((1 << of.bits) - 1);
    const double y = of.wanted.y[at];
    const double rotation =
        roundoff(of.t) * of.wanted.rounded[at] + accumulated * 0x1p-24 * of.wanted.terms[at] + 1e-7;
    const double rounding =
        2 * rotation + roundoff(of.t) * (std::fabs(scale) * code + std::fabs(bias));
    const double error = std::fabs(scale * code + bias - y);
    worst.element = std::max(worst.element, error / (1.1 * step + rounding));
    if (!std::isfinite(error)) worst.element = error;
    errors += error, slack += rounding;
  }
  worst.mean = std::max(worst.mean, errors / (0.4 * step * static_cast<double>(of.group) + slack));
}

}  // namespace

// What is there: any bits. What is new: numbers, since codes of others mean nothing; queries are of
// all kinds.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 173 + static_cast<uint64_t>(request.distribution));
  for (size_t port = 0; port < 6; ++port) {
    auto* const to = static_cast<uint8_t*>(request.inputs[port]);
    const int64_t row = row_bytes(dims, port < 3 ? "D" : "Dv", port % 3, request.t);
    for (int64_t i = 0; i < all_rows(dims) * row; ++i)
      to[i] = static_cast<uint8_t>(random.next() >> 56);
  }
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  fill_new_heads(request, kQ, true);
  const int64_t last = dims.at("S") - dims.at("M");
  const int64_t wrong[] = {-1, last + 1, INT32_MIN, INT32_MAX};
  const bool fits =
      last >= 0 && (request.distribution != spec::Distribution::special || request.seed % 2 == 0);
  const auto places = static_cast<uint64_t>(std::max<int64_t>(last, 0)) + 1;
  spec::store_integer(
      request.inputs[kRow], 0, Dtype::int32,
      fits ? static_cast<int64_t>(random.below(places)) : wrong[random.below(std::size(wrong))]);
  fill_offsets(request, request.inputs[kOffset]);
  fill_head_weights(plain, kOffset);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  std::vector<spec::Reference64> result(7);
  result[6] = HeadReference(in, kOffset, dtype, dims, scalars).queries(kQ);
  return result;
}

void exact(const std::vector<const void*>& in, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  const int64_t width = dims.at("Dv"), added = dims.at("M"), first = row_of(in, dims);
  int64_t bytes[3];
  for (size_t part = 0; part < 3; ++part) {
    bytes[part] = row_bytes(dims, "Dv", part, t);
    std::memcpy(outputs[3 + part], in[3 + part], static_cast<size_t>(all_rows(dims) * bytes[part]));
  }
  const auto to = [&](size_t part, int64_t row) {
    return static_cast<std::byte*>(outputs[3 + part]) + row * bytes[part];
  };
  for (int64_t head = 0; head < dims.at("B") * dims.at("Hk") && first >= 0; ++head)
    for (int64_t m = 0; m < added; ++m) {
      const int64_t row = head * dims.at("S") + first + m;
      quantize_row(in[kV], (head * added + m) * width, width, dims.at("bits"),
                   dims.at("group_size"), t, {to(0, row), to(1, row), to(2, row)});
    }
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const Dims& dims = judged.dims;
  const int64_t width = dims.at("D"), added = dims.at("M"), first = row_of(judged.inputs, dims);
  const int64_t group = dims.at("group_size");
  const spec::Reference64 keys =
      HeadReference(judged.inputs, kOffset, judged.t, dims, judged.scalars).keys(kK);
  const double accumulated = bound_of_heads(dims).accumulated;
  Worst worst;
  double changed = 0;
  for (int64_t row = 0; row < all_rows(dims); ++row) {
    const int64_t head = row / dims.at("S"), m = row % dims.at("S") - first;
    const bool is_new = first >= 0 && m >= 0 && m < added;
    const std::byte* now[3];
    for (size_t part = 0; part < 3; ++part) {
      const int64_t bytes = row_bytes(dims, "D", part, judged.t);
      now[part] = static_cast<const std::byte*>(judged.outputs[part]) + row * bytes;
      const auto* const before = static_cast<const std::byte*>(judged.inputs[part]) + row * bytes;
      if (!is_new && std::memcmp(now[part], before, static_cast<size_t>(bytes)) != 0) ++changed;
    }
    for (int64_t g = 0; is_new && g < width / group; ++g)
      judge({now[0], now[1], now[2], g, group, dims.at("bits"), judged.t, keys,
             (head * added + m) * width + g * group},
            accumulated, worst);
  }
  return {{"|scale code + bias - k| in steps and roundings", worst.element, 1},
          {"the mean of that in 0.4 steps", worst.mean, 1},
          {"rows of keys that changed and are not new", changed, 0}};
}

}  // namespace mlx_kd::kernels::qk_norm_rope_append_quantized
