#include <mlx/device.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/call/native_group.h"
#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/cuda/cuda_body.h"
#include "mlx_kd/devices/cuda/cuda_device.h"
#include "mlx_kd/devices/cuda/driver/choice.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  try {
    std::string why;
    const cuda::GpuInfo* gpu = cuda::find_gpu(&why);
    if (!gpu) return {"cuda", false, "no NVIDIA GPU: " + why};
    if (!cuda::find_nvrtc(&why))
      return {"cuda", false,
              gpu->name + ", but no NVRTC (" + why + "): pip install nvidia-cuda-nvrtc"};
    return {"cuda", true,
            gpu->name + ", sm_" + std::to_string(gpu->sm) + ", " + std::to_string(gpu->processors) +
                " multiprocessors; " + cuda::nvrtc_version()};
  } catch (const base::Error& error) {
    return {"cuda", false, error.what()};
  }
}

Finding examine_native() {
  std::string why;
  try {
    if (cuda::find_native(&why))
      return {Level::ok, "cuda", probe().detail + "; " + cuda::native_path().filename().string(),
              ""};
  } catch (const base::Error& error) {
    why = error.what();
  }
  return {Level::warn, "cuda", probe().detail + "; kernels are not nodes of MLX's graphs: " + why,
          "a call costs the host more, and kernels in CUDA C++ do not run on MLX's arrays: build "
          "libmlx_kd_cuda_native with this MLX (docs/cuda.md)"};
}

// A machine without a GPU lacks nothing; one with a GPU lacks what keeps it from being used.
std::vector<Finding> examine() {
  std::string why;
  if (!cuda::find_driver() || !cuda::find_gpu()) return {};
  if (!cuda::find_nvrtc(&why))
    return {{Level::warn, "cuda", "a GPU, but no NVRTC: " + why,
             "pip install nvidia-cuda-nvrtc, or name the library in MLX_KD_NVRTC"}};
  if (!mlx::core::is_available(mlx::core::Device::gpu))
    return {{Level::warn, "cuda", "a GPU, but an MLX without CUDA",
             "pip install 'mlx[cuda13]': without it kernels are timed alone, never against MLX"}};
  return {examine_native()};
}

}  // namespace

DeviceKind kind_cuda();

DeviceKind kind_cuda() {
  return {.kind = "cuda",
          .probe = probe,
          .open = cuda::open_cuda_device,
          .examine = examine,
          .languages = {"metal", "cuda"},
          .run_body = cuda::run_body,
          .group = cuda::native_group,
          .choose = cuda::choose_gpu};
}

}  // namespace mlx_kd::devices
