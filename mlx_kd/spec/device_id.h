// What a device is, as far as kernels, pins and protocols need to know.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/base/json.h"

namespace mlx_kd::spec {

// What a variant's knob space may depend on.
struct DeviceTraits {
  int cores = 1;                 // threads that run at once on a CPU; 0 elsewhere
  int vector_bytes = 16;         // widest vector register: 16, 32, 64
  std::vector<std::string> isa;  // instruction sets a CPU kernel may be compiled for, as the pin's
                                 // target says: {"avx512f", "f16c", ...}
  int64_t l1_bytes = 32 << 10;   // data cache of a core
  int64_t l2_bytes = 1 << 20;    // second-level cache that warm and cold are told apart by
  int64_t l3_bytes = 0;          // 0 if unknown
};

struct DeviceId {
  std::string kind;  // "cpu", "cuda", "metal", "simt", "null": the --device option
  std::string
      arch;  // device_arch of a pin, as MLX's device_info says: "x86_64", "sm_90", "applegpu_g16s"
  std::string name;  // device_name of a pin: "AMD EPYC", "NVIDIA H100 80GB HBM3"
  DeviceTraits traits;
  base::Json target;  // what a pin's entry needs in addition to its key: {"isa": [...], "cores": 2}
                      // | {"sm": 90}
};

}  // namespace mlx_kd::spec
