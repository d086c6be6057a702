// The tensor maps of a stage, encoded for a call.
#pragma once

#include <string>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::devices::cuda {

// Misuse for maps that the chip does not take.
void check_tensor_maps(const std::string& op_name, const spec::Stage& stage, int sm);

// kd_tensor_maps as a kernel takes it.
class EncodedMaps {
 public:
  // `address` gives where the array of a map begins, on the GPU.
  template <class Address>
  void encode(const std::vector<spec::TensorMap>& maps, const Address& address) {
    for (size_t i = 0; i < maps.size(); ++i)
      encode_one(maps[i], const_cast<void*>(address(maps[i])), i);
  }
  void* data() { return bytes_.data(); }

 private:
  static constexpr size_t kBytes = 128;

  // Fails (exit 1) with the driver's words.
  void encode_one(const spec::TensorMap& map, void* address, size_t place);

  alignas(64) std::array<unsigned char, kBytes * spec::kMostTensorMaps> bytes_;
};

}  // namespace mlx_kd::devices::cuda
