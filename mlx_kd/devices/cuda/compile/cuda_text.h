// A Metal text as the GPU runs it, on the one way to its cubin that candidates, calls of
// metal_kernel and kd msl run share: devices/metal_text translates it, here it is named, keyed and
// compiled.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/object_cache.h"
#include "mlx_kd/devices/metal_text/translated_text.h"

namespace mlx_kd::devices::cuda {

struct CudaText {
  std::string file;  // as messages name the Metal text
  std::string code;  // in CUDA
  std::vector<std::string> options;
  std::string key;  // 64 hex digits, of all that decides the cubin

  // The kernel's name in the cubin: MLX knows kernels by their symbols, so no two cubins share one.
  std::string symbol(const msl::Kernel& kernel) const;
};

// `text` is translated to CUDA. group_threads: of the largest threadgroup that its kernels are
// launched in (nvrtc_options).
CudaText cuda_text(const TranslatedText& text, int sm, int64_t group_threads);

// The object of that key: from the cache, or what `compile` makes, which then is in it. A refusal
// of the compiler is a value. `about`: what the cache's list calls it.
Artifact cached_cubin(const cpu::ObjectCache& cache, const std::string& key,
                      const std::string& about, const std::function<Cubin()>& compile);
Artifact compile_text(const CudaText& text, const cpu::ObjectCache& cache,
                      const std::string& about);

}  // namespace mlx_kd::devices::cuda
