// The kinds of device this build knows: one folder with a kind.cpp each.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/doctor.h"

namespace mlx_kd::devices {

struct MetalBodyCall;  // mlx_kd/devices/metal_text/metal_body.h

struct DeviceKind {
  std::string kind;                         // "cpu": the --device option
  DeviceReport (*probe)();                  // quick; never throws
  std::shared_ptr<const Device> (*open)();  // called only where probe says available
  std::vector<Finding> (*examine)();        // for `kd doctor`; never throws
  std::vector<std::string> languages = {};  // as Device::languages says, for devices not here
  std::vector<mlx::core::array> (*run_body)(const MetalBodyCall&) =
      nullptr;  // a call of metal_kernel on MLX arrays
  // MLX copies an array that an output updates before each call, even if nothing else holds it.
  bool copies_updates = false;
  std::shared_ptr<const OperationGroup> (*group)(const std::vector<mlx::core::array>& inputs,
                                                 const std::vector<mlx::core::array>& outputs) =
      nullptr;  // for group_operations()
  // Of a kind with several devices: from now on this one is the only one that this process and
  // those that it starts use. Misuse if there is none of that index.
  void (*choose)(int index) = nullptr;
};

// By name in order.
std::vector<DeviceKind> all_kinds();

// Generated (mlx_kd/devices/room.cmake): devices/<kind>/kind.cpp defines kind_<kind>().
using MakeKind = DeviceKind();
const std::vector<MakeKind*>& kind_makers();

}  // namespace mlx_kd::devices
