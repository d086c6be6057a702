#include "mlx_kd/kernels/matmul/weights64.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace mlx_kd::kernels::matmul {
namespace {

// By mode; an affine format may have several.
constexpr Format kFloatFormats[] = {{}, {4, 32}, {8, 32}, {4, 16}};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double float4(uint32_t code) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8 ? -1 : 1) * kValues[code & 7];
}

// 4 bits of exponent, 3 of mantissa, no infinities.
double float8(uint32_t code) {
  const int exponent = static_cast<int>(code >> 3 & 15);
  const double mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return kNan;
  const double value =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1 + mantissa / 8, exponent - 7);
  return code & 0x80 ? -value : value;
}

// Code `column` of a row, a stream of bits from the lowest on.
uint32_t code_at(const uint8_t* row, int64_t column, int64_t bits) {
  uint32_t code = 0;
  for (int64_t i = 0; i < bits; ++i) {
    const int64_t bit = column * bits + i;
    code |= static_cast<uint32_t>(row[bit / 8] >> bit % 8 & 1) << i;
  }
  return code;
}

double value_of(const Format& format, uint32_t code) {
  if (format.mode == kAffine) return code;
  return format.bits == 8 ? float8(code) : float4(code);
}

double scale_of(const Format& format, const void* scales, spec::Dtype t, int64_t at) {
  if (format.mode == kAffine) return spec::load_element(scales, at, t);
  const uint32_t code = static_cast<const uint8_t*>(scales)[at];
  if (format.mode == kNvfp4) return float8(code);
  return code == 255 ? kNan : std::ldexp(1, static_cast<int>(code) - 127);
}

// No code is a NaN.
void fill_codes(const Format& format, int64_t bytes, void* codes, base::Random& random) {
  auto* to = static_cast<uint8_t*>(codes);
  for (int64_t i = 0; i < bytes; ++i) {
    to[i] = static_cast<uint8_t>(random.next());
    if (format.mode == kMxfp8 && (to[i] & 0x7f) == 0x7f) to[i] ^= 1;
  }
}

void fill_scales(const Format& format, spec::Dtype t, int64_t count,
                 const std::vector<void*>& arrays, base::Random& random) {
  const double half = std::ldexp(1, static_cast<int>(format.bits) - 1);
  for (int64_t i = 0; i < count; ++i) {
    const double share = 0.5 + random.uniform();
    if (format.mode == kAffine) {
      const double scale = 0.03 / half * share;
      spec::store_element(arrays[1], i, t, static_cast<float>(scale));
      spec::store_element(arrays[2], i, t,
                          static_cast<float>(-scale * half * (0.8 + 0.4 * random.uniform())));
    } else {
      const uint64_t code = format.mode == kNvfp4   ? 8 + random.below(16)
                            : format.mode == kMxfp4 ? 118 + random.below(5)
                                                    : 112 + random.below(5);
      static_cast<uint8_t*>(arrays[1])[i] = static_cast<uint8_t>(code);
    }
  }
}

}  // namespace

Format format_of(const spec::Dims& dims) {
  if (!dims.has("bits")) return {};
  return {dims.at("bits"), dims.at("group"), dims.at("mode")};
}

std::string mlx_mode(const Format& format) {
  constexpr const char* kNames[] = {"affine", "mxfp4", "mxfp8", "nvfp4"};
  return kNames[format.mode];
}

bool is_format(const Format& format, int64_t k) {
  const auto [bits, group, mode] = format;
  if (mode == kDense) return true;
  if (group < 1 || k % group != 0) return false;
  if (mode == kAffine)
    return ((bits >= 2 && bits <= 6) || bits == 8) && (group == 32 || group == 64 || group == 128);
  return mode > kAffine && mode < kDense && bits == kFloatFormats[mode].bits &&
         group == kFloatFormats[mode].group;
}

std::string why_not(const Format& format, int64_t k) {
  if (is_format(format, k)) return "";
  const auto [bits, group, mode] = format;
  const std::string sizes = std::to_string(bits) + " bits in groups of " + std::to_string(group);
  if (mode < kAffine || mode > kNvfp4)
    return "mode is " + std::to_string(mode) +
           ": give 0 (affine), 1 (mxfp4), 2 (mxfp8) or 3 (nvfp4)";
  if (mode == kAffine && !((bits >= 2 && bits <= 6) || bits == 8))
    return sizes + ": an affine format has 2, 3, 4, 5, 6 or 8 bits";
  if (mode == kAffine && group != 32 && group != 64 && group != 128)
    return sizes + ": an affine format has groups of 32, 64 or 128";
  const Format& wanted = kFloatFormats[mode];
  if (mode != kAffine && (bits != wanted.bits || group != wanted.group))
    return sizes + ": " + mlx_mode(format) + " has " + std::to_string(wanted.bits) +
           " bits in groups of " + std::to_string(wanted.group);
  return "K is " + std::to_string(k) + ": it must be a multiple of the group, " +
         std::to_string(group);
}

void fill_weights(const Format& format, spec::Dtype t, int64_t n, int64_t k,
                  const std::vector<void*>& arrays, base::Random& random) {
  if (format.mode == kDense) {
    for (int64_t i = 0; i < n * k; ++i)
      spec::store_element(arrays[0], i, t, static_cast<float>(0.02 * random.normal()));
    return;
  }
  fill_codes(format, n * k * format.bits / 8, arrays[0], random);
  fill_scales(format, t, n * k / format.group, arrays, random);
}

Row64 row_of(const Format& format, const Stored& stored, spec::Dtype t, int64_t row, int64_t k) {
  Row64 result;
  const auto* codes = static_cast<const uint8_t*>(stored.codes) + row * k * format.bits / 8;
  for (int64_t j = 0; j < k; ++j) {
    if (format.mode == kDense) {
      const double w = spec::load_element(stored.codes, row * k + j, t);
      result.w.push_back(w);
      result.magnitudes.push_back(std::fabs(w));
      continue;
    }
    const int64_t group = row * (k / format.group) + j / format.group;
    const double product = scale_of(format, stored.scales, t, group) *
                           value_of(format, code_at(codes, j, format.bits));
    const double bias = format.mode == kAffine ? spec::load_element(stored.biases, group, t) : 0.0;
    result.w.push_back(product + bias);
    result.magnitudes.push_back(std::fabs(product) + std::fabs(bias));
  }
  return result;
}

}  // namespace mlx_kd::kernels::matmul
