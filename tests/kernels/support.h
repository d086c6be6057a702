// What the tests of kernels share: traits of CPUs and a scratch folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {

spec::DeviceTraits host_traits();    // of the running CPU
spec::DeviceTraits avx512_traits();  // 2 cores of a CPU with all that the sources can use

// A folder of this process, removed at its end.
const std::filesystem::path& scratch_folder();

}  // namespace mlx_kd::kernels
