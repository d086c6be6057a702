// Candidates in Metal and in CUDA C++ -> cubins of the present GPU's architecture, in the cache
// that they share with the CPU's objects.
#pragma once

#include <string>

#include "mlx_kd/devices/cuda/compile/cuda_text.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/object_cache.h"

namespace mlx_kd::devices::cuda {

// How a candidate is translated: arrays of an op do not overlap unless one updates another, and
// numbers and strides need no memory.
msl::TranslateOptions candidate_options(const spec::Candidate& candidate);

// A candidate in Metal on its way to the GPU. Launches of a whole file are of whole threadgroups of
// one dimension; those of a body are as its pack says. Misuse for what Metal does not allow; fails
// (exit 1) if the text has no func_name.
struct CandidateText {
  TranslatedText text;
  CudaText cuda;
};
CandidateText candidate_text(const spec::Candidate& candidate, int sm);

// Thread-safe; compiles run in parallel and no lock is held meanwhile.
class CudaCompiler {
 public:
  CudaCompiler(int sm, cpu::ObjectCache cache) : sm_(sm), cache_(std::move(cache)) {}

  // As Device::compile, for the languages metal and cuda. NVRTC works in this process and cannot be
  // stopped: past its time limit it is left to end by itself, and what it makes goes into the
  // cache.
  // Of a source whose kernels are compiled alone: func_name, and at the same time those that this
  // process has launched of the operator.
  Artifact compile(const spec::Candidate& candidate, double timeout_s) const;

  // A kernel of such a source, from the cache or compiled now.
  Artifact compile_alone(const spec::Candidate& candidate, const std::string& func_name) const;

  const cpu::ObjectCache& cache() const { return cache_; }

 private:
  int sm_;
  cpu::ObjectCache cache_;
};

}  // namespace mlx_kd::devices::cuda
