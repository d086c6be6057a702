// A candidate in CUDA C++ -> machine code: its macros, its options, NVRTC.
#pragma once

#include "mlx_kd/devices/cuda/cubin.h"
#include "mlx_kd/devices/cuda/launch_plan.h"

namespace mlx_kd::devices::cuda {

// `text` defines extern "C" __global__ functions that take one kd_arguments by value
// (kernels/common/kd_arguments.h).
struct CudaSource {
  std::string op_name;
  std::string file;  // as messages name it: "cholesky.cu"
  std::string text;
  std::string func_name;  // one that the object must have
  ElementType dtype = ElementType::float32;
  std::vector<PlanPort> inputs, outputs;
  std::vector<std::string> dim_names, scalar_names;  // in the order of kd_arguments
  spec::Setting knobs;
};
CudaSource cuda_source(const spec::Candidate& candidate);

// "-DKD_DTYPE=0", "-DKD_DIM_rows=0", "-DKD_SCALAR_eps=0", "-DKD_TYPE_inp=0", and the knobs. Misuse
// for more ports, sizes or numbers than kd_arguments holds.
std::vector<std::string> cuda_macros(const CudaSource& source);

// CUDA's own headers (cuda_bf16.h, mma.h): folders of the toolkit or the nvidia wheels beside MLX,
// or the one that MLX_KD_CUDA_INCLUDE names. None is needed by a source that includes nothing.
std::vector<std::string> cuda_include_folders();

// For the chip's own architecture (sm_90a), with the macros and the folders.
std::vector<std::string> cuda_source_options(const CudaSource& source, int sm);

// Machine code, or why there is none: the compiler's first error with file and line, or that the
// object has no func_name. Fails (exit 1) where there is no NVRTC.
Cubin compile_source(const CudaSource& source, const std::vector<std::string>& options);

// 64 hex digits, of all that decides the cubin.
std::string source_key(const CudaSource& source, const std::vector<std::string>& options);

}  // namespace mlx_kd::devices::cuda
