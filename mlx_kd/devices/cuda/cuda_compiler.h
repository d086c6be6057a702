// Candidates in Metal and in CUDA C++ -> cubins of the present GPU's architecture, in the cache
// that they share with the CPU's objects.
#pragma once

#include <string>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/object_cache.h"
#include "mlx_kd/devices/metal_text/translated_text.h"

namespace mlx_kd::devices::cuda {

// How every candidate is translated: arrays of an op do not overlap, and numbers need no memory.
msl::TranslateOptions candidate_options();

// The kernel of a candidate as the host binds it. `symbol` is its name in the cubin that `key`
// names: MLX knows kernels by their symbols, so no two candidates share one.
struct CudaKernel {
  msl::Kernel kernel;
  std::shared_ptr<msl::SourceSet> sources;
  std::string text;  // in CUDA, for whole threadgroups of one dimension (KD_WHOLE_LINES)
  std::string symbol;
};
// Misuse for what Metal does not allow; fails (exit 1) if the text has no such kernel.
CudaKernel translate_candidate(const spec::Candidate& candidate, const std::string& key);

// Thread-safe; compiles run in parallel and no lock is held meanwhile.
class CudaCompiler {
 public:
  CudaCompiler(int sm, cpu::ObjectCache cache) : sm_(sm), cache_(std::move(cache)) {}

  // As Device::compile, for the languages metal and cuda. NVRTC works in this process and cannot be
  // stopped: past its time limit it is left to end by itself, and what it makes goes into the
  // cache.
  Artifact compile(const spec::Candidate& candidate, double timeout_s) const;

  // 64 hex digits, of all that decides the cubin.
  std::string key_of(const spec::Candidate& candidate) const;

  const cpu::ObjectCache& cache() const { return cache_; }

 private:
  int sm_;
  cpu::ObjectCache cache_;
};

}  // namespace mlx_kd::devices::cuda
