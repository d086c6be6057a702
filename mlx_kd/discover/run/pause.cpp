#include "mlx_kd/discover/run/pause.h"

#include <chrono>
#include <thread>

namespace mlx_kd::discover {
namespace {

bool is_in_use(const std::filesystem::path& file) {
  std::error_code missing;
  const auto touched = std::filesystem::last_write_time(file, missing);
  return !missing &&
         std::filesystem::file_time_type::clock::now() - touched < std::chrono::seconds(1);
}

}  // namespace

void wait_while_in_use(const std::filesystem::path& file, const std::function<bool()>& ended) {
  while (is_in_use(file) && !ended()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

}  // namespace mlx_kd::discover
