// Compiled kernels, loaded.
#pragma once

#include <memory>
#include <string>

#include "mlx_kd/devices/simt/executor/executor.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices::simt {

class Module {
 public:
  // An object that simt_compiler.h made. Fails (exit 1) if it cannot be loaded or is none of these.
  static std::shared_ptr<Module> load(const std::string& object);

  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Fails (exit 1) if the object has no such kernel.
  Entry entry(const msl::Kernel& kernel) const;

  // The sizes of what the kernel's threadgroup arguments refer to; 0 for pointers.
  std::vector<size_t> group_bytes(const msl::Kernel& kernel) const;

  // "kernels.metal:12" of an instruction, from the debug information by addr2line; "" if unknown.
  std::string line_of(const void* code) const;

 private:
  Module() = default;
  void open(const std::string& object);

  std::string object_;
  void* handle_ = nullptr;
};

}  // namespace mlx_kd::devices::simt
