// What the tests of kernels share: traits of CPUs, a scratch folder, macros and random settings.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::kernels {

spec::DeviceTraits host_traits();    // of the running CPU
spec::DeviceTraits avx512_traits();  // 2 cores of a CPU with all that the sources can use

// A folder of this process, removed at its end.
const std::filesystem::path& scratch_folder();

std::vector<std::string> macros_of(const spec::Space& space, const spec::Setting& knobs,
                                   spec::Dtype dtype);

// A random valid setting; its launch knobs vary too.
spec::Setting random_setting(const spec::Space& space, base::Random& random);

// The valid settings of a space, counted one by one.
int64_t count_valid(const spec::Space& space);

}  // namespace mlx_kd::kernels
