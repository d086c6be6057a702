// The system's C++ compiler: kernel source -> object in the cache.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/object_cache.h"

namespace mlx_kd::devices::cpu {

struct Toolchain {
  std::string program;  // path
  std::string version;  // first line of --version
};

// $MLX_KD_CXX, else $CXX, else g++, clang++ or c++. Fails, saying what to install, if none starts;
// misuse if MLX_KD_CXX names one that does not.
Toolchain find_toolchain();

// {"-O3"}; MLX_KD_KERNEL_OPT names another level (1 or 2; misuse otherwise). Of kernels in C++, and
// of Metal's on the executor.
std::vector<std::string> optimisation_flags();

// The options of every kernel; docs/decisions/cpu-kernels.md has the reasons. MLX_KD_MARCH
// names an instruction set in place of this machine's own.
std::vector<std::string> kernel_flags();

// Thread-safe; compiles run in parallel.
class Compiler {
 public:
  Compiler(Toolchain toolchain, ObjectCache cache)
      : toolchain_(std::move(toolchain)), cache_(std::move(cache)) {}

  // As Device::compile. Knobs of role source become macros; those in launch_params do not.
  Artifact compile(const spec::Candidate& candidate, double timeout_s) const;

  const ObjectCache& cache() const { return cache_; }
  const Toolchain& toolchain() const { return toolchain_; }

 private:
  Artifact compile_fresh(const spec::Candidate& candidate, const std::vector<std::string>& options,
                         const std::string& key, double timeout_s) const;
  std::string key_of(const std::string& source, const std::vector<std::string>& options) const;

  Toolchain toolchain_;
  ObjectCache cache_;
};

}  // namespace mlx_kd::devices::cpu
