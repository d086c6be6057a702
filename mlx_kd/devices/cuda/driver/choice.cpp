#include "mlx_kd/devices/cuda/driver/choice.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr const char* kVisible = "CUDA_VISIBLE_DEVICES";
constexpr int kMostCount = 255;  // of an exit status

// As the driver counts them in a process of its own; 0 where it shows none.
int gpus_shown() {
  const pid_t child = fork();
  if (child < 0) base::fail("devices", "a process that counts the GPUs cannot be started");
  if (child == 0) {
    int count = 0;
    try {
      const Driver* const cuda = find_driver();
      if (!cuda || cuda->device_count(&count) != 0) count = 0;
    } catch (const base::Error&) {
      count = 0;
    }
    _exit(std::min(count, kMostCount));
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 0;
  return WEXITSTATUS(status);
}

}  // namespace

std::string visible_of(const char* visible, int index, int count) {
  if (index >= count)
    base::misuse("devices",
                 "there is no GPU cuda:" + std::to_string(index) + ": " +
                     (count == 1 ? "1 GPU is shown, cuda:0"
                                 : std::to_string(count) + " GPUs are shown, cuda:0 to cuda:" +
                                       std::to_string(count - 1)));
  if (!visible || !*visible) return std::to_string(index);
  const std::string list = visible;
  size_t begin = 0;
  for (int i = 0; i < index; ++i) begin = list.find(',', begin) + 1;
  return list.substr(begin, list.find(',', begin) - begin);
}

void choose_gpu(int index) {
  const int count = gpus_shown();
  if (count == 0) return;
  setenv(kVisible, visible_of(std::getenv(kVisible), index, count).c_str(), 1);
}

}  // namespace mlx_kd::devices::cuda
