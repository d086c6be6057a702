// The element types of kernels.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_kd::spec {

enum class Dtype { float32, float16, bfloat16 };

const std::vector<Dtype>& all_dtypes();
std::string name_of(Dtype dtype);          // "float16"
Dtype parse_dtype(std::string_view name);  // misuse, naming the known ones
int64_t size_of(Dtype dtype);              // bytes
double unit_roundoff(Dtype dtype);         // u: 2^-24, 2^-11, 2^-8
double largest_finite(Dtype dtype);        // 3.4e38, 65504, 3.39e38
double smallest_subnormal(Dtype dtype);    // 2^-149, 2^-24, 2^-133

// One element, to and from storage bits (round to nearest even; NaN stays NaN). float32 passes
// through.
float load_element(const void* data, int64_t index, Dtype dtype);
void store_element(void* data, int64_t index, Dtype dtype, float value);

}  // namespace mlx_kd::spec
