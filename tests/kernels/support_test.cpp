#include "tests/kernels/support.h"

#include <unistd.h>

#include <fstream>

namespace mlx_kd::kernels {
namespace {

namespace fs = std::filesystem;

struct Scratch {
  fs::path path = fs::temp_directory_path() / ("mlx_kd_kernels_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

spec::DeviceTraits avx512_traits() {
  spec::DeviceTraits traits;
  traits.cores = 2;
  traits.vector_bytes = 64;
  traits.isa = {"avx2", "avx512_bf16", "avx512bw", "avx512f", "avx512vl", "f16c", "fma"};
  return traits;
}

spec::DeviceTraits host_traits() {
  spec::DeviceTraits traits = avx512_traits();
  std::ifstream file("/proc/cpuinfo");
  std::string line, flags;
  while (std::getline(file, line))
    if (line.starts_with("flags")) flags = line + " ";
  std::erase_if(traits.isa, [&](const std::string& isa) {
    return flags.find(" " + isa + " ") == std::string::npos;
  });
  const bool wide = flags.find(" avx512f ") != std::string::npos;
  traits.vector_bytes = wide ? 64 : flags.find(" avx2 ") != std::string::npos ? 32 : 16;
  return traits;
}

const fs::path& scratch_folder() {
  static const Scratch scratch;
  return scratch.path;
}

}  // namespace mlx_kd::kernels
