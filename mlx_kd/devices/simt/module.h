// Translated kernels, compiled by the system's compiler and loaded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/executor.h"
#include "mlx_kd/msl/translate.h"

namespace mlx_kd::devices::simt {

struct CompileOptions {
  bool check = false;   // report every access to the runtime; slow
  bool debug = false;   // no optimisation, debug information: for gdb
  bool syntax = false;  // only say what is wrong; no module
  double timeout_s = 60;
};

class Module {
 public:
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Fails (exit 1) if the object has no such kernel.
  Entry entry(const msl::Kernel& kernel) const;

  // "kernels.metal:12" of an instruction, from the debug information by addr2line; "" if unknown.
  std::string line_of(const void* code) const;

 private:
  friend std::shared_ptr<Module> compile(const msl::Unit&, const msl::Translation&,
                                         const CompileOptions&, std::vector<msl::Diagnostic>&);
  Module() = default;
  std::string folder_;  // of the object; removed with it
  void* handle_ = nullptr;
};

// nullptr, with what is wrong in `found`, if the compiler refuses the text. Fails (exit 1) if there
// is no compiler or it takes too long. The compiler is $CXX, else g++, clang++ or c++ of the PATH.
std::shared_ptr<Module> compile(const msl::Unit& unit, const msl::Translation& translation,
                                const CompileOptions& options, std::vector<msl::Diagnostic>& found);

}  // namespace mlx_kd::devices::simt
