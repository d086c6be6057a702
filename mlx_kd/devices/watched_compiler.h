// Part of a device whose check() compiles a candidate once more, so that every access is reported.
#pragma once

#include "mlx_kd/spec/op/candidate.h"

namespace mlx_kd::devices {

class WatchedCompiler {
 public:
  // Compiles what check() will load, so that it need not wait; from any thread. What the compiler
  // refuses is left to check().
  virtual void compile_watched(const spec::Candidate& candidate) const = 0;

 protected:
  ~WatchedCompiler() = default;
};

}  // namespace mlx_kd::devices
