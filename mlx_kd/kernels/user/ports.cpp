#include "mlx_kd/kernels/user/ports.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"

namespace mlx_kd::kernels::user {
namespace {

constexpr const char* kOwnType = "T";

double end_of_range(const std::string& text, const spec::Dims& dims) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end != text.c_str() && *end == '\0') return number;
  return static_cast<double>(Expression(text).value(dims, {}));
}

void fill_range(void* data, const spec::ArraySpec& array, double least, double most,
                base::Random& random) {
  const bool is_real = spec::is_float(array.type);
  const auto count = static_cast<uint64_t>(std::max(0.0, most - least)) + 1;
  for (int64_t i = 0; i < array.elements(); ++i) {
    if (is_real)
      spec::store_element(data, i, array.type,
                          static_cast<float>(least + (most - least) * random.uniform()));
    else
      spec::store_integer(data, i, array.type,
                          static_cast<int64_t>(least) + static_cast<int64_t>(random.below(count)));
  }
}

// Powers of two whose squares and sums over a row stay finite; by seed all of them, large ones
// alone, tiny ones alone.
void fill_magnitudes(void* data, const spec::ArraySpec& array, uint64_t seed,
                     base::Random& random) {
  const bool is_half = array.type == spec::Dtype::float16;
  double least = is_half ? -12 : -30, most = is_half ? 4 : 20;
  const double eighth = (most - least) / 8;
  if (seed % 3 == 1) least = most - eighth;
  if (seed % 3 == 2) most = least + eighth;
  for (int64_t i = 0; i < array.elements(); ++i) {
    const double size = std::exp2(least + (most - least) * random.uniform());
    spec::store_element(data, i, array.type,
                        static_cast<float>(random.next() >> 63 ? -size : size));
  }
}

void fill_port(const UserPort& port, void* data, const spec::FillRequest& request,
               base::Random& random) {
  const spec::ArraySpec array = array_of(port, request.t, request.dims);
  if (!port.least.empty())
    return fill_range(data, array, end_of_range(port.least, request.dims),
                      end_of_range(port.most, request.dims), random);
  if (!spec::is_float(array.type)) return fill_range(data, array, 0, 1, random);
  if (request.distribution == spec::Distribution::magnitudes)
    return fill_magnitudes(data, array, request.seed, random);
  for (int64_t i = 0; i < array.elements(); ++i)
    spec::store_element(data, i, array.type, static_cast<float>(random.normal()));
}

}  // namespace

std::string dtype_of_metal(const std::string& metal_type) {
  static const std::map<std::string, std::string> names = {
      {"float", "float32"},       {"half", "float16"},
      {"float16_t", "float16"},   {"bfloat", "bfloat16"},
      {"bfloat16_t", "bfloat16"}, {"int", "int32"},
      {"int32_t", "int32"},       {"uint", "uint32"},
      {"uint32_t", "uint32"},     {"long", "int64"},
      {"int64_t", "int64"},       {"uchar", "uint8"},
      {"uint8_t", "uint8"},       {"bool", "bool"}};
  auto found = names.find(metal_type);
  if (found == names.end() && !metal_type.empty() &&
      std::isdigit(static_cast<unsigned char>(metal_type.back())))
    found = names.find(metal_type.substr(0, metal_type.size() - 1));  // float4
  return found == names.end() ? "" : found->second;
}

std::string metal_type_of(const UserPort& port) {
  static const std::map<std::string, std::string> types = {
      {"", "KD_T"},           {"T", "KD_T"},    {"float32", "float"}, {"float16", "half"},
      {"bfloat16", "bfloat"}, {"int32", "int"}, {"uint32", "uint"},   {"int64", "int64_t"},
      {"uint8", "uint8_t"},   {"bool", "bool"}};
  const auto found = types.find(port.type);
  if (found == types.end())
    base::misuse("tune", "'" + port.name + "' has type '" + port.type +
                             "': give float32, float16, bfloat16, int32, uint32, int64, uint8, "
                             "bool or T");
  return found->second;
}

spec::Shape shape_of(const std::vector<Expression>& axes, const spec::Dims& dims) {
  spec::Shape result;
  for (const Expression& axis : axes) result.push_back(axis.value(dims, {}));
  return result;
}

std::vector<Expression> axes_of(const UserPort& port) {
  std::vector<Expression> result;
  for (const std::string& axis : port.shape) result.emplace_back(axis);
  return result;
}

spec::ArraySpec array_of(const UserPort& port, spec::Dtype t, const spec::Dims& dims) {
  spec::ArraySpec result{shape_of(axes_of(port), dims),
                         port.type == kOwnType ? t : spec::parse_dtype(port.type)};
  for (const int64_t extent : result.shape)
    if (extent < 1)
      base::misuse("tune", "an axis of '" + port.name + "' has " + std::to_string(extent) +
                               " elements at " + dims.text() + ": correct its shape or the size");
  return result;
}

spec::Port make_port(const UserPort& port) {
  spec::Port result;
  result.name = port.name;
  result.shape = [axes = axes_of(port)](const spec::Dims& dims) { return shape_of(axes, dims); };
  if (port.type != kOwnType) result.type = spec::parse_dtype(port.type);
  return result;
}

bool is_read(const UserKernel& kernel, const std::string& dim) {
  return std::any_of(kernel.inputs.begin(), kernel.inputs.end(), [&](const UserPort& port) {
    return std::find(port.shape.begin(), port.shape.end(), dim) != port.shape.end();
  });
}

spec::Dims dims_of(const UserKernel& kernel, const std::vector<spec::Shape>& inputs,
                   std::span<const double> others) {
  spec::Dims result;
  size_t next = 0;
  for (const std::string& dim : kernel.dims) {
    if (!is_read(kernel, dim)) {
      result.set(dim, static_cast<int64_t>(others[next++]));
      continue;
    }
    for (size_t i = 0; i < inputs.size() && !result.has(dim); ++i)
      for (size_t axis = 0; axis < inputs[i].size() && axis < kernel.inputs[i].shape.size(); ++axis)
        if (kernel.inputs[i].shape[axis] == dim) result.set(dim, inputs[i][axis]);
  }
  return result;
}

void fill_ports(const UserKernel& kernel, const spec::FillRequest& request) {
  for (size_t i = 0; i < kernel.inputs.size(); ++i) {
    base::Random random(request.seed * 1000003 + i * 101 +
                        static_cast<uint64_t>(request.distribution));
    fill_port(kernel.inputs[i], request.inputs[i], request, random);
  }
}

}  // namespace mlx_kd::kernels::user
