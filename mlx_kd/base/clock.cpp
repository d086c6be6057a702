#include "mlx_kd/base/clock.h"

#include <chrono>
#include <ctime>

#ifdef __linux__
#include <sys/syscall.h>
#endif

namespace mlx_kd::base {

std::string iso_time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char date[32];
  char offset[8];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &local);
  std::strftime(offset, sizeof offset, "%z", &local);
  const std::string zone = offset;  // "+0100"
  return std::string(date) + zone.substr(0, 3) + ":" + zone.substr(3);
}

std::string seconds_text(double seconds) {
  const std::string text = std::to_string(seconds);
  return text.substr(0, text.find('.') + 2) + " s";
}

int64_t steady_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

int64_t system_call_ns() {
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
  timespec now = {};
#if defined(__x86_64__)
  long status = SYS_clock_gettime;
  __asm__ volatile("syscall"
                   : "+a"(status)
                   : "D"(static_cast<long>(CLOCK_MONOTONIC)), "S"(&now)
                   : "rcx", "r11", "memory");
#else
  register long number __asm__("x8") = SYS_clock_gettime;
  register long status __asm__("x0") = CLOCK_MONOTONIC;
  register timespec* result __asm__("x1") = &now;
  __asm__ volatile("svc #0" : "+r"(status) : "r"(number), "r"(result) : "memory");
#endif
  return status == 0 ? now.tv_sec * int64_t(1000000000) + now.tv_nsec : steady_ns();
#else
  return steady_ns();
#endif
}

}  // namespace mlx_kd::base
