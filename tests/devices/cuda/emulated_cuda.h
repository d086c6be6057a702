// The CUDA translation of a Metal source on the executor: what a GPU would run, without one.
#pragma once

#include "mlx_kd/devices/simt/checks/session.h"

namespace mlx_kd::devices::simt {

class EmulatedCuda {
 public:
  // Fails the test, and leaves nothing to run, where the text does not compile.
  EmulatedCuda(const msl::Unit& unit, const msl::TranslateOptions& options);

  bool compiled() const { return module_ != nullptr; }
  // As Session::run, on one core.
  LaunchReport run(MslRequest& request) const;

 private:
  msl::Translation text_;
  std::shared_ptr<Module> module_;
};

}  // namespace mlx_kd::devices::simt
