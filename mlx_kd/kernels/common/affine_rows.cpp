#include "mlx_kd/kernels/common/affine_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mlx_kd::kernels {

using spec::Dtype;

std::string wrong_code(int64_t bits, int64_t group) {
  if (bits != 4 && bits != 8) return "bits is " + std::to_string(bits) + ": it must be 4 or 8";
  if (group != 32 && group != 64 && group != 128)
    return "group_size is " + std::to_string(group) + ": it must be 32, 64 or 128";
  return "";
}

std::function<spec::Shape(const spec::Dims&)> codes_of(const char* heads, const char* width) {
  return [heads, width](const spec::Dims& d) {
    return spec::Shape{d.at("B"), d.at(heads), d.at("S"), d.at(width) * d.at("bits") / 32};
  };
}

std::function<spec::Shape(const spec::Dims&)> groups_of(const char* heads, const char* width) {
  return [heads, width](const spec::Dims& d) {
    return spec::Shape{d.at("B"), d.at(heads), d.at("S"), d.at(width) / d.at("group_size")};
  };
}

std::function<spec::Shape(const spec::Dims&)> codes_of_pages(const char* heads, const char* width) {
  return [heads, width](const spec::Dims& d) {
    return spec::Shape{d.at("P"), d.at(heads), d.at("L"), d.at(width) * d.at("bits") / 32};
  };
}

std::function<spec::Shape(const spec::Dims&)> groups_of_pages(const char* heads,
                                                              const char* width) {
  return [heads, width](const spec::Dims& d) {
    return spec::Shape{d.at("P"), d.at(heads), d.at("L"), d.at(width) / d.at("group_size")};
  };
}

void quantize_group(const std::vector<float>& x, int64_t bits, Dtype t, int64_t g,
                    const CodedMemory& to) {
  float low = x[0], high = x[0];
  for (const float one : x) low = std::min(low, one), high = std::max(high, one);
  const auto most = static_cast<float>((1 << bits) - 1);
  const bool by_low = std::fabs(low) > std::fabs(high);
  float scale = std::max((high - low) / most, 1e-7f);
  if (!by_low) scale = -scale;
  const float end = by_low ? low : high, q0 = std::rint(end / scale);
  float bias = 0;
  if (q0 != 0) scale = end / q0, bias = end;
  spec::store_element(to.scales, g, t, scale);
  spec::store_element(to.biases, g, t, bias);
  const auto group = static_cast<int64_t>(x.size());
  auto* const codes = reinterpret_cast<uint8_t*>(to.codes) + g * group * bits / 8;
  std::memset(codes, 0, static_cast<size_t>(group * bits / 8));
  for (int64_t i = 0; i < group; ++i) {
    const float q = std::rint((x[static_cast<size_t>(i)] - bias) / scale);
    const auto code = static_cast<int>(std::clamp(q, 0.0f, most));
    codes[i * bits / 8] |= static_cast<uint8_t>(code << (i * bits % 8));
  }
}

void quantize_row(const void* from, int64_t first, int64_t width, int64_t bits, int64_t group,
                  Dtype t, const CodedMemory& to) {
  std::vector<float> x(static_cast<size_t>(group));
  for (int64_t g = 0; g < width / group; ++g) {
    for (int64_t i = 0; i < group; ++i)
      x[static_cast<size_t>(i)] =
          static_cast<float>(spec::load_element(from, first + g * group + i, t));
    quantize_group(x, bits, t, g, to);
  }
}

}  // namespace mlx_kd::kernels
