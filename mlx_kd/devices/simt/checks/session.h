// One kernel of a Metal source, from its text to its outputs: what kd msl run does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/devices/metal_text/msl_request.h"
#include "mlx_kd/devices/metal_text/translated_text.h"
#include "mlx_kd/devices/simt/executor/checker.h"
#include "mlx_kd/devices/simt/program/module.h"

namespace mlx_kd::devices::simt {

// A parsed, translated and compiled source.
class Session {
 public:
  // Misuse, with the place in the Metal text, for what is not valid Metal.
  Session(const std::string& name, const std::string& text, const msl::PreprocessOptions& options,
          const msl::TranslateOptions& translate);

  const msl::Unit& unit() const { return text_.unit; }
  const msl::Translation& translation() const { return text_.made; }

  // Misuse for an unknown kernel, buffers without an array and the reverse, arrays of another type
  // than the kernel's, and outputs bound to const parameters. Fails (exit 1) if the kernel does not
  // end in time or faults.
  MslOutcome run(MslRequest& request);

 private:
  std::vector<void*> bind(const msl::Kernel& kernel, MslRequest& request, Checker* checker) const;
  std::shared_ptr<Module> module(bool check, bool debug);

  TranslatedText text_;
  std::shared_ptr<Module> plain_, checked_, debug_;
};

}  // namespace mlx_kd::devices::simt
