// Translated kernels, compiled by the system's compiler, kept in the cache of objects, and loaded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/executor/executor.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices::simt {

struct CompileOptions {
  bool check = false;   // report every access to the runtime; slow
  bool debug = false;   // no optimisation, debug information: for gdb
  bool syntax = false;  // only say what is wrong; no module
  double timeout_s = 60;
};

class Module {
 public:
  // An object that was compiled earlier. Fails (exit 1) if it cannot be loaded or is none of ours.
  static std::shared_ptr<Module> load(const std::string& object);

  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Fails (exit 1) if the object has no such kernel.
  Entry entry(const msl::Kernel& kernel) const;

  // "kernels.metal:12" of an instruction, from the debug information by addr2line; "" if unknown.
  std::string line_of(const void* code) const;

 private:
  Module() = default;
  void open(const std::string& object);

  std::string object_;
  void* handle_ = nullptr;
};

// The compiler's options for every translated text, without those that choose what is made of it.
std::vector<std::string> common_flags();

// nullptr, with what is wrong in `found`, if the compiler refuses the text. Fails (exit 1) if there
// is no compiler (cpu/compiler.h) or it takes too long. An object of the same text, options,
// prelude, compiler and CPU is taken from the cache (cpu/object_cache.h).
std::shared_ptr<Module> compile(const msl::Unit& unit, const msl::Translation& translation,
                                const CompileOptions& options, std::vector<msl::Diagnostic>& found);

}  // namespace mlx_kd::devices::simt
