#include "mlx_kd/spec/dtype.h"

#include <bit>
#include <cmath>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

uint16_t to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_bfloat16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

// Adding 2^112 at the right exponent lets the float unit do the rounding, subnormals included.
uint16_t to_float16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000)
    return static_cast<uint16_t>(sign | 0x7c00);  // rounds to 65536 or more
  if (magnitude < 0x38800000) {                   // subnormal: a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

float from_float16(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0)
    return std::copysign(static_cast<float>(fraction) * 0x1p-24f,
                         std::bit_cast<float>(sign | 0x3f800000));
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

Dtype parse_one_of(const std::vector<Dtype>& dtypes, std::string_view name) {
  std::vector<std::string> known;
  for (Dtype dtype : dtypes) {
    known.push_back(name_of(dtype));
    if (known.back() == name) return dtype;
  }
  base::misuse("spec",
               "dtype '" + std::string(name) + "' is not known: choose " + base::list_of(known));
}

// What unit_roundoff and its like know of a floating-point type.
struct Limits {
  double roundoff, largest, subnormal;
};

Limits limits_of(Dtype dtype, const char* what) {
  switch (dtype) {
    case Dtype::float32:
      return {0x1p-24, 0x1.fffffep127, 0x1p-149};
    case Dtype::float16:
      return {0x1p-11, 65504.0, 0x1p-24};
    case Dtype::bfloat16:
      return {0x1p-8, 0x1.fep127, 0x1p-133};
    case Dtype::float64:
      return {0x1p-53, 0x1.fffffffffffffp1023, 0x1p-1074};
    default:
      base::fail("spec", name_of(dtype) + " has no " + what + ": it is not a floating-point type");
  }
}

template <class T>
void store_as(void* data, int64_t index, int64_t value) {
  static_cast<T*>(data)[index] = static_cast<T>(value);
}

}  // namespace

const std::vector<Dtype>& all_dtypes() {
  static const std::vector<Dtype> all = {Dtype::float32, Dtype::float16, Dtype::bfloat16,
                                         Dtype::int32,   Dtype::uint32,  Dtype::int64,
                                         Dtype::uint8,   Dtype::boolean, Dtype::float64};
  return all;
}

const std::vector<Dtype>& float_dtypes() {
  static const std::vector<Dtype> floats = {Dtype::float32, Dtype::float16, Dtype::bfloat16};
  return floats;
}

bool is_float(Dtype dtype) {
  return dtype <= Dtype::bfloat16 || dtype == Dtype::float64;
}

std::string name_of(Dtype dtype) {
  static constexpr const char* names[] = {"float32", "float16", "bfloat16", "int32",  "uint32",
                                          "int64",   "uint8",   "bool",     "float64"};
  return names[static_cast<size_t>(dtype)];
}

Dtype parse_dtype(std::string_view name) {
  return parse_one_of(all_dtypes(), name);
}

Dtype parse_float_dtype(std::string_view name) {
  static const std::vector<Dtype> floats = {Dtype::float32, Dtype::float16, Dtype::bfloat16,
                                            Dtype::float64};
  return parse_one_of(floats, name);
}

int64_t size_of(Dtype dtype) {
  static constexpr int64_t bytes[] = {4, 2, 2, 4, 4, 8, 1, 1, 8};
  return bytes[static_cast<size_t>(dtype)];
}

double unit_roundoff(Dtype dtype) {
  return limits_of(dtype, "unit roundoff").roundoff;
}

double largest_finite(Dtype dtype) {
  return limits_of(dtype, "largest finite number").largest;
}

double smallest_subnormal(Dtype dtype) {
  return limits_of(dtype, "subnormal numbers").subnormal;
}

float load_element(const void* data, int64_t index, Dtype dtype) {
  if (dtype == Dtype::float32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return dtype == Dtype::float16 ? from_float16(bits) : from_bfloat16(bits);
}

void store_element(void* data, int64_t index, Dtype dtype, float value) {
  if (dtype == Dtype::float32)
    static_cast<float*>(data)[index] = value;
  else
    static_cast<uint16_t*>(data)[index] =
        dtype == Dtype::float16 ? to_float16(value) : to_bfloat16(value);
}

int64_t load_integer(const void* data, int64_t index, Dtype dtype) {
  switch (dtype) {
    case Dtype::int32:
      return static_cast<const int32_t*>(data)[index];
    case Dtype::uint32:
      return static_cast<const uint32_t*>(data)[index];
    case Dtype::int64:
      return static_cast<const int64_t*>(data)[index];
    case Dtype::uint8:
    case Dtype::boolean:
      return static_cast<const uint8_t*>(data)[index];
    default:
      base::fail("spec", name_of(dtype) + " is not an integer type: use load_element");
  }
}

void store_integer(void* data, int64_t index, Dtype dtype, int64_t value) {
  switch (dtype) {
    case Dtype::int32:
      return store_as<int32_t>(data, index, value);
    case Dtype::uint32:
      return store_as<uint32_t>(data, index, value);
    case Dtype::int64:
      return store_as<int64_t>(data, index, value);
    case Dtype::uint8:
      return store_as<uint8_t>(data, index, value);
    case Dtype::boolean:
      return store_as<uint8_t>(data, index, value != 0);
    default:
      base::fail("spec", name_of(dtype) + " is not an integer type: use store_element");
  }
}

double load_number(const void* data, int64_t index, Dtype dtype) {
  if (dtype == Dtype::float64) return static_cast<const double*>(data)[index];
  if (is_float(dtype)) return load_element(data, index, dtype);
  return static_cast<double>(load_integer(data, index, dtype));
}

void store_number(void* data, int64_t index, Dtype dtype, double value) {
  if (dtype == Dtype::float64)
    static_cast<double*>(data)[index] = value;
  else
    store_element(data, index, dtype, static_cast<float>(value));
}

}  // namespace mlx_kd::spec
