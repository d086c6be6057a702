// One call as lookup sees it: numbers alone, so that building and comparing allocate nothing.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mlx_kd/spec/limits.h"

namespace mlx_kd::runtime {

using spec::kMostDims;
inline constexpr size_t kMostParams = spec::kMostScalars;

// The MLX version, the device's name and its instruction sets are not here: they are the process's,
// and were matched when the pack was loaded.
struct Query {
  uint16_t op = 0;                           // index into all_operators()
  uint8_t dtype = 0;                         // spec::Dtype
  uint8_t place = 0;                         // mx::Device::DeviceType of the call's stream
  uint32_t unused = 0;                       // no padding: queries are compared by their bytes
  std::array<int64_t, kMostDims> dims = {};  // in the order of Op::dim_names
  std::array<double, kMostParams> params = {};

  // What pins are keyed by; params are compared by the pin.
  bool same_size(const Query& other) const {
    return std::memcmp(this, &other, offsetof(Query, params)) == 0;
  }
  bool operator==(const Query& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};
static_assert(sizeof(Query) == 8 + 8 * (kMostDims + kMostParams));

// Of what same_size() compares.
inline uint64_t hash_of(const Query& query) {
  uint64_t hash = query.op | uint64_t(query.dtype) << 16 | uint64_t(query.place) << 24;
  for (const int64_t dim : query.dims) {
    hash = (hash ^ static_cast<uint64_t>(dim)) * 0x9e3779b97f4a7c15;
    hash = std::rotl(hash, 29);
  }
  return hash ^ (hash >> 32);
}

}  // namespace mlx_kd::runtime
