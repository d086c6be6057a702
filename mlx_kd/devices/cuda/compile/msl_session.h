// One kernel of a Metal source on the GPU: what kd msl run --device cuda does.
#pragma once

#include <map>
#include <memory>

#include "mlx_kd/devices/cuda/compile/cuda_text.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/metal_text/msl_request.h"
#include "mlx_kd/devices/metal_text/translated_text.h"

namespace mlx_kd::devices::cuda {

// A parsed, translated and compiled source; cubins are those of the cache.
class MslSession {
 public:
  // Misuse, with the place in the Metal text, for what is not valid Metal; fails (exit 1) where
  // there is no GPU or no NVRTC.
  MslSession(const std::string& name, const std::string& text,
             const msl::PreprocessOptions& options, const msl::TranslateOptions& translate);
  ~MslSession();

  const msl::Unit& unit() const { return text_.unit; }
  const msl::Translation& translation() const { return text_.made; }

  // As simt::Session::run, without its checks: `seconds` are of the kernel alone, by the GPU's
  // clock. A kernel that does not end in time continues until the process ends; the session can
  // then not be used any more.
  MslOutcome run(MslRequest& request);

 private:
  struct Compiled {
    Compiled(CudaText one, const std::string& cubin) : text(std::move(one)), code(cubin) {}
    CudaText text;
    Code code;
  };
  const Compiled& code_for(int64_t group_threads);

  TranslatedText text_;
  std::map<int, std::unique_ptr<Compiled>> codes_;  // by register_limit
};

}  // namespace mlx_kd::devices::cuda
