// The loadable module mlx_kd_cuda_native: found, checked against the MLX that runs, loaded.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/devices/cuda/call/native_api.h"

namespace mlx_kd::devices::cuda {

// What the module must have been built for.
struct NativeTarget {
  std::string mlx_version;
  std::filesystem::path mlx_headers;  // MLX's include folder
  std::vector<int> cuda_majors;       // of the CUDA libraries that MLX works with
};
NativeTarget present_target();

// Empty, or why the module does not fit: its interface, the version of MLX, CUDA's major version,
// or the first of MLX's headers that is missing or differs.
std::string why_not(const NativeAbout& about, const NativeTarget& target);

// Where the module is looked for: MLX_KD_CUDA_NATIVE (a path; 0 switches it off), else the folder
// of the program or library that this is linked into, the folder above it, and lib in either.
std::vector<std::filesystem::path> native_places();

// Opens the module at `path`, checks it and returns its functions; nullptr with the reason in
// `why`. Nothing of it runs before the check but its own about().
const NativeApi* load_native(const std::filesystem::path& path, const NativeTarget& target,
                             std::string& why);

// The module of this process, loaded by the first call. Thread-safe. nullptr, with the reason in
// `why`: calls then go through MLX's precompiled_cuda_kernel.
const NativeApi* find_native(std::string* why = nullptr);

// The file that find_native() loaded.
std::filesystem::path native_path();

}  // namespace mlx_kd::devices::cuda
