// Names that Metal itself defines: attributes, the thread positions among them, and value types.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlx_kd::msl {

// One of the attributes that give a thread its place.
struct ThreadAttribute {
  std::string name;
  bool vector = false;  // uint, uint2 or uint3; the others are scalars
};

// In the order in which metal_kernel adds them to a body.
const std::vector<ThreadAttribute>& thread_attributes();
const ThreadAttribute* find_thread_attribute(std::string_view name);

enum class Known { yes, unsupported, no };
// Whether Metal has the attribute, and whether compute kernels here can have it.
Known known_attribute(std::string_view name);

// Scalars, vectors and matrices: "float", "uint4", "packed_half3", "float4x4".
bool is_value_type(std::string_view name);

}  // namespace mlx_kd::msl
