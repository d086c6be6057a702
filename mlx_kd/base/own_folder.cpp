#include "mlx_kd/base/own_folder.h"

#include <dlfcn.h>

#include <string_view>
#include <system_error>

namespace mlx_kd::base {

namespace fs = std::filesystem;

fs::path own_folder() {
  std::error_code error;
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) && info.dli_fname &&
      std::string_view(info.dli_fname).find('/') != std::string_view::npos) {
    const fs::path file = fs::canonical(info.dli_fname, error);
    if (!error) return file.parent_path();
  }
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path(".") : program.parent_path();
}

}  // namespace mlx_kd::base
