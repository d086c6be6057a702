// Metal texts -> objects of this CPU, in the cache that they share with the CPU's own kernels.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/host/compiler.h"
#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/devices/simt/module.h"

namespace mlx_kd::devices::simt {

// Thread-safe; compiles run in parallel.
class SimtCompiler {
 public:
  SimtCompiler(cpu::Toolchain toolchain, cpu::ObjectCache cache)
      : toolchain_(std::move(toolchain)), cache_(std::move(cache)) {}

  // As Device::compile; `about` names what it is for in the cache's record. What Metal does not
  // allow, and what the system's compiler refuses, is an Artifact with the place in the Metal text.
  Artifact compile(const MetalText& source, const std::string& about, double timeout_s) const;

  const cpu::ObjectCache& cache() const { return cache_; }

 private:
  Artifact compile_fresh(const MetalText& source, const std::string& about, const std::string& key,
                         double timeout_s) const;
  std::string key_of(const MetalText& source) const;

  cpu::Toolchain toolchain_;
  cpu::ObjectCache cache_;
};

// The kernel of that host name as the host binds it, read from the text again: an object does not
// tell. Fails (exit 1) if the text has none.
struct Described {
  msl::Kernel kernel;
  std::shared_ptr<msl::SourceSet> sources;
};
Described describe(const MetalText& source, const std::string& kernel);

}  // namespace mlx_kd::devices::simt
