// One kernel of a Metal source, from its text to its outputs: what kd msl run does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/executor/checker.h"
#include "mlx_kd/devices/simt/host_array.h"
#include "mlx_kd/devices/simt/module.h"
#include "mlx_kd/msl/parse/parser.h"

namespace mlx_kd::devices::simt {

struct Request {
  std::string kernel;  // host name; "" if the source has one kernel
  Size3 grid{1, 1, 1};
  Size3 threadgroup{1, 1, 1};
  std::vector<HostArray> arrays;  // inputs and outputs by name; changed in place
  std::vector<size_t> group_bytes;
  LaunchOptions launch;
  bool check_races = false;
  bool check_memory = false;
  bool debug = false;  // not optimised, for gdb; every thread a fiber
};

struct Outcome {
  LaunchReport report;
  std::vector<std::string> findings;  // for a person: "k.metal:12: thread 3 reads ... "
};

// A parsed, translated and compiled source.
class Session {
 public:
  // Misuse, with the place in the Metal text, for what is no valid Metal.
  Session(const std::string& name, const std::string& text, const msl::PreprocessOptions& options,
          const msl::TranslateOptions& translate);

  const msl::Unit& unit() const { return unit_; }
  const msl::Translation& translation() const { return translation_; }

  // Misuse for an unknown kernel, buffers without an array and the reverse, arrays of another type
  // than the kernel's, and outputs bound to const parameters. Fails (exit 1) if the kernel does not
  // end in time or faults.
  Outcome run(Request& request);

 private:
  std::vector<void*> bind(const msl::Kernel& kernel, Request& request, Checker* checker) const;
  std::shared_ptr<Module> module(bool check, bool debug);
  std::string tell(const Finding& finding, const Module& module) const;

  msl::Unit unit_;
  msl::Translation translation_;
  std::shared_ptr<Module> plain_, checked_, debug_;
};

}  // namespace mlx_kd::devices::simt
