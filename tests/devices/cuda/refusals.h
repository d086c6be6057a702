// What the tests of the device cuda share about messages.
#pragma once

#include <exception>
#include <functional>
#include <string>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::cuda {

inline constexpr int kSm = 90;  // compiled for, whatever GPU is here

// The message that the work ends with; empty if it does not throw. `exit_code`: of a base::Error.
inline std::string refusal_of(const std::function<void()>& work, int* exit_code = nullptr) {
  try {
    work();
  } catch (const base::Error& error) {
    if (exit_code) *exit_code = error.exit_code();
    return error.what();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Of a misuse (exit 2) alone.
inline std::string misuse_of(const std::function<void()>& work) {
  int exit_code = 0;
  const std::string text = refusal_of(work, &exit_code);
  return exit_code == 2 ? text : "";
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace mlx_kd::devices::cuda
