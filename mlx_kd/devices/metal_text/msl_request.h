// One run of a kernel of a Metal source on arrays of the host: what kd msl run asks of a device.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/metal_text/host_array.h"
#include "mlx_kd/devices/metal_text/launch_options.h"

namespace mlx_kd::devices {

struct MslRequest {
  std::string kernel;  // host name; "" if the source has one kernel
  Size3 grid{1, 1, 1};
  Size3 threadgroup{1, 1, 1};
  std::vector<HostArray> arrays;  // inputs and outputs by name; changed in place
  std::vector<size_t> group_bytes;
  RunOptions launch;
  bool check_races = false;
  bool check_memory = false;
  bool debug = false;  // not optimised, for gdb; every thread a fiber
};

struct MslOutcome {
  LaunchReport report;
  std::vector<std::string> findings;  // for a person: "k.metal:12: thread 3 reads ... "
};

}  // namespace mlx_kd::devices
