#include "mlx_kd/discover/ranks/waiting.h"

#include <fcntl.h>
#include <unistd.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {

WakePipe::WakePipe() {
  if (pipe(ends_) != 0) base::fail("discover", "no pipe can be made: raise ulimit -n");
  for (const int end : ends_) {
    fcntl(end, F_SETFD, FD_CLOEXEC);
    fcntl(end, F_SETFL, O_NONBLOCK);
  }
}

WakePipe::~WakePipe() {
  for (const int end : ends_) close(end);
}

void WakePipe::wake() const {
  [[maybe_unused]] const ssize_t written = write(ends_[1], "w", 1);
}

void WakePipe::clear() const {
  char buffer[64];
  while (read(ends_[0], buffer, sizeof buffer) > 0) continue;
}

}  // namespace mlx_kd::discover
