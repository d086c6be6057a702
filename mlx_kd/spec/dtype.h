// The element types of arrays. An operator's own type T is one of the floating-point ones
// (Op::types).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_kd::spec {

enum class Dtype : uint8_t {
  float32,
  float16,
  bfloat16,
  int32,
  uint32,
  int64,
  uint8,
  boolean,
  float64
};

const std::vector<Dtype>& all_dtypes();  // in the order of the enumeration
const std::vector<Dtype>&
float_dtypes();  // float32, float16, bfloat16: what T of most operators is
bool is_float(Dtype dtype);
std::string name_of(Dtype dtype);                // "float16", "uint32", "bool": as MLX names it
Dtype parse_dtype(std::string_view name);        // misuse, naming the known ones
Dtype parse_float_dtype(std::string_view name);  // float64 too
int64_t size_of(Dtype dtype);                    // bytes

// Of floating-point types; fail for others.
double unit_roundoff(Dtype dtype);       // u: 2^-24, 2^-11, 2^-8, 2^-53
double largest_finite(Dtype dtype);      // 3.4e38, 65504, 3.39e38, 1.8e308
double smallest_subnormal(Dtype dtype);  // 2^-149, 2^-24, 2^-133, 2^-1074

// One element of float32, float16 or bfloat16, to and from storage bits (round to nearest even; NaN
// stays NaN).
float load_element(const void* data, int64_t index, Dtype dtype);
void store_element(void* data, int64_t index, Dtype dtype, float value);

// One element of an integer type or bool. A value that the type does not hold is stored modulo 2^n.
int64_t load_integer(const void* data, int64_t index, Dtype dtype);
void store_integer(void* data, int64_t index, Dtype dtype, int64_t value);

// One element of any type as a double: exact, except for int64 beyond 2^53.
double load_number(const void* data, int64_t index, Dtype dtype);
// One floating-point element; rounded to float32 first where the type is narrower than float64.
void store_number(void* data, int64_t index, Dtype dtype, double value);

}  // namespace mlx_kd::spec
