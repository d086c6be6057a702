// What `kd tune` reads of a kernel that a program autotunes: files for one size.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/runtime/tuning/autotune.h"

namespace mlx_kd::runtime {

// What T is: the type of the first input that has a floating-point type, else float32.
mlx::core::Dtype own_type(const std::vector<mlx::core::array>& inputs);
std::string type_name(mlx::core::Dtype dtype);
std::string setting_text(const AutotuneKernel::Knobs& knobs);  // "TG=64,VEC=4"
// "i0_0=64,i0_1=1024": the axes of the inputs as sizes of the operator.
std::string size_text(const std::vector<mlx::core::array>& inputs);

// Every setting of the knobs that the kernel takes for these arrays, with its launch.
using Launches = std::vector<std::pair<AutotuneKernel::Knobs, AutotuneKernel::Launch>>;
// Misuse (room autotune) where the kernel refuses all of them.
Launches launches_of(const AutotuneKernel& kernel, const Autotune& options,
                     const std::vector<mlx::core::array>& inputs);

// What kernel.metal holds of the kernel, its knobs and its launches. Misuse as above.
std::string autotune_text(const AutotuneKernel& kernel, const Autotune& options,
                          const std::vector<mlx::core::array>& inputs);

// Writes kernel.metal, with its digest in front, reference.py and the graphs that it loads.
void write_autotune_files(const std::filesystem::path& folder, const AutotuneKernel& kernel,
                          const Autotune& options, const std::vector<mlx::core::array>& inputs);

}  // namespace mlx_kd::runtime
