#include "mlx_kd/devices/cuda/driver/tensor_maps.h"

#include <algorithm>
#include <bit>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int kFirstWithMaps = 90;
constexpr int64_t kMostOfBox = 256, kMapAlignment = 16;

// What is wrong with a map, or "".
std::string fault_of(const spec::TensorMap& map) {
  const auto in_bytes = [&](int64_t elements) { return elements * map.element_bytes; };
  const auto text = [](int64_t number) { return std::to_string(number); };
  if (!std::has_single_bit(static_cast<uint64_t>(map.element_bytes)) || map.element_bytes > 8)
    return "elements of " + text(map.element_bytes) + " bytes: give 1, 2, 4 or 8";
  for (const int64_t side : map.box)
    if (side < 1 || side > kMostOfBox)
      return "a tile of " + text(map.box[0]) + " x " + text(map.box[1]) + ": give 1 to " +
             text(kMostOfBox);
  if (map.size[0] < 1 || map.size[1] < 1)
    return "a matrix of " + text(map.size[0]) + " x " + text(map.size[1]) + ": give at least 1";
  if (in_bytes(map.pitch) % kMapAlignment != 0 || map.pitch < map.size[0])
    return "rows that are " + text(in_bytes(map.pitch)) +
           " bytes apart: give a multiple of 16 that holds a row";
  if (map.swizzle != 0 && map.swizzle != 32 && map.swizzle != 64 && map.swizzle != 128)
    return "a swizzle of " + text(map.swizzle) + " bytes: give 0, 32, 64 or 128";
  if (in_bytes(map.box[0]) % kMapAlignment != 0 ||
      (map.swizzle > 0 && in_bytes(map.box[0]) > map.swizzle))
    return "rows of a tile of " + text(in_bytes(map.box[0])) +
           " bytes: give a multiple of 16, no more than the swizzle";
  return "";
}

}  // namespace

void check_tensor_maps(const std::string& op_name, const spec::Stage& stage, int sm) {
  if (stage.tensor_maps.empty()) return;
  const std::string who = "'" + stage.func_name + "' of '" + op_name + "' ";
  if (sm < kFirstWithMaps)
    base::misuse("devices", who + "has tensor maps: sm_" + std::to_string(sm) + " takes none");
  if (stage.tensor_maps.size() > spec::kMostTensorMaps)
    base::misuse("devices", who + "has " + std::to_string(stage.tensor_maps.size()) +
                                " tensor maps: give at most " +
                                std::to_string(spec::kMostTensorMaps));
  for (const spec::TensorMap& map : stage.tensor_maps)
    if (const std::string fault = fault_of(map); !fault.empty())
      base::misuse("devices", who + "has a tensor map with " + fault);
}

void EncodedMaps::encode_one(const spec::TensorMap& map, void* address, size_t place) {
  // By their numbers in the driver's interface: whole numbers of 1, 2, 4 and 8 bytes, tiles that
  // are not interleaved, 256 bytes at once into the second-level cache, zeros outside.
  constexpr int kTypes[] = {0, 1, 2, 4}, kNotInterleaved = 0, kPromoted = 3, kZeros = 0;
  const int type = kTypes[std::countr_zero(static_cast<uint64_t>(map.element_bytes))];
  const int swizzle =
      map.swizzle == 0 ? 0 : std::countr_zero(static_cast<uint64_t>(map.swizzle)) - 4;
  const unsigned long long sizes[] = {static_cast<unsigned long long>(map.size[0]),
                                      static_cast<unsigned long long>(map.size[1])};
  const unsigned long long pitch[] = {
      static_cast<unsigned long long>(map.pitch * map.element_bytes)};
  const unsigned box[] = {static_cast<unsigned>(map.box[0]), static_cast<unsigned>(map.box[1])};
  const unsigned steps[] = {1, 1};
  check(driver().encode_tiles(bytes_.data() + place * kBytes, type, 2, address, sizes, pitch, box,
                              steps, kNotInterleaved, swizzle, kPromoted, kZeros),
        "encoding a tensor map");
}

}  // namespace mlx_kd::devices::cuda
