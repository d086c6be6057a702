#include "mlx_kd/runtime/notes.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace mlx_kd::runtime {

void tell_once(const std::string& text) {
  constexpr size_t kMostTexts = 1000;  // then a program that reloads for ever has been told enough
  static std::mutex& mutex = *new std::mutex;
  static std::set<std::string>& told = *new std::set<std::string>;
  std::lock_guard lock(mutex);
  if (told.size() < kMostTexts && told.insert(text).second)
    std::fprintf(stderr, "[runtime] %s\n", text.c_str());
}

}  // namespace mlx_kd::runtime
