#include "mlx_kd/devices/host/environment.h"

#include <charconv>
#include <cstdlib>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices {

std::string env_text(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

int64_t env_mib(const char* name, int64_t default_mib) {
  const std::string text = env_text(name);
  if (text.empty()) return default_mib << 20;
  int64_t value = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || value < 0 || value > (1 << 20))
    base::misuse("devices", std::string(name) + " is '" + text +
                                "': give a whole number of MiB, at most 1048576");
  return value << 20;
}

}  // namespace mlx_kd::devices
