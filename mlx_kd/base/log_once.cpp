#include "mlx_kd/base/log_once.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace mlx_kd::base {

void log_once(std::string_view room, const std::string& text) {
  constexpr size_t kMostLines = 1000;
  static std::mutex& mutex = *new std::mutex;
  static std::set<std::string>& logged = *new std::set<std::string>;
  const std::string line = "[" + std::string(room) + "] " + text + "\n";
  std::lock_guard lock(mutex);
  if (logged.size() < kMostLines && logged.insert(line).second) std::fputs(line.c_str(), stderr);
}

}  // namespace mlx_kd::base
