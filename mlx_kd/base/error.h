// Errors a person reads: "[room] what is wrong, with the value: what to do".
// cli/main.cpp catches them once and exits with exit_code().
#pragma once

#include <stdexcept>
#include <string>

#include "mlx_kd/base/api.h"

namespace mlx_kd::base {

class MLX_KD_API Error : public std::runtime_error {
 public:
  Error(const std::string& message, int exit_code)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The user asked for something that cannot be meant (exit 2): unknown op, bad file, wrong option.
[[noreturn]] void misuse(const std::string& room, const std::string& message);

// The request was sound and could not be carried out (exit 1): disk full, no compiler.
[[noreturn]] void fail(const std::string& room, const std::string& message);

// "'a', 'b' or 'c'": how messages list the known values.
template <class Strings>
std::string list_of(const Strings& names) {
  std::string text;
  size_t left = names.size();
  for (const std::string& name : names) {
    text += "'" + name + "'";
    --left;
    if (left > 1) text += ", ";
    if (left == 1) text += " or ";
  }
  return text;
}

}  // namespace mlx_kd::base
