// One call as lookup sees it: numbers alone, so that building and comparing allocate nothing.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mlx_kd/spec/op/limits.h"

namespace mlx_kd::runtime {

using spec::kMostDims;
inline constexpr size_t kMostParams = spec::kMostScalars;

// One value for each of Op::dims; the others are 0.
using DimValues = std::array<int64_t, kMostDims>;

// The MLX version, the device's name and its instruction sets are not here: they are the process's,
// and were matched when the pack was loaded.
struct Query {
  uint16_t op = 0;      // index into all_operators()
  uint8_t dtype = 0;    // spec::Dtype: T
  uint8_t place = 0;    // mx::Device::DeviceType of the call's stream
  uint32_t unused = 0;  // no padding: queries are compared by their bytes
  DimValues dims = {};
  std::array<double, kMostParams> params = {};

  // What pins are keyed by; params are compared by the pin.
  bool same_size(const Query& other) const {
    return std::memcmp(this, &other, offsetof(Query, params)) == 0;
  }
  bool operator==(const Query& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};
static_assert(sizeof(Query) == 8 + 8 * (kMostDims + kMostParams));

// Of what same_size() compares. Four chains side by side: one takes as long as a cache miss.
inline uint64_t hash_of(const Query& query) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  static_assert(kMostDims % 4 == 0);
  uint64_t lanes[4] = {query.op | uint64_t(query.dtype) << 16 | uint64_t(query.place) << 24, 1, 2,
                       3};
  for (size_t i = 0; i < kMostDims; i += 4)
    for (size_t lane = 0; lane < 4; ++lane)
      lanes[lane] =
          std::rotl((lanes[lane] ^ static_cast<uint64_t>(query.dims[i + lane])) * kOdd, 29);
  uint64_t hash = (lanes[0] ^ std::rotl(lanes[1], 17)) * kOdd;
  hash ^= (lanes[2] ^ std::rotl(lanes[3], 31)) * kOdd;
  return (hash * kOdd) ^ (hash >> 32);
}

}  // namespace mlx_kd::runtime
