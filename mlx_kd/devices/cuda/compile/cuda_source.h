// A candidate in CUDA C++ -> machine code: its macros, its options, NVRTC.
//
// Its source defines extern "C" __global__ functions that take one kd_arguments by value
// (kernels/common/kd_arguments.h).
#pragma once

#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/cuda/compile/packed_arguments.h"

namespace mlx_kd::devices::cuda {

// CUDA's own headers (cuda_bf16.h, mma.h): folders of the toolkit or the nvidia wheels next to MLX,
// or the one that MLX_KD_CUDA_INCLUDE names. None is needed by a source that includes nothing.
std::vector<std::string> cuda_include_folders();

// Whether its kernels are compiled one at a time (kernels/common/alone.cu.h).
bool has_kernels_alone(const spec::Candidate& candidate);

// For the chip's own architecture (sm_90a), with argument_macros(), count_macros() and the folders,
// and the kernel that is wanted where it is compiled alone.
std::vector<std::string> source_options(const spec::Candidate& candidate, int sm,
                                        const std::string& func_name);
std::vector<std::string> source_options(const spec::Candidate& candidate, int sm);  // func_name

// Machine code, or why there is none: the compiler's first error with file and line, or that the
// object has no such kernel. Fails (exit 1) where there is no NVRTC.
Cubin compile_source(const spec::Candidate& candidate, const std::vector<std::string>& options,
                     const std::string& func_name);
Cubin compile_source(const spec::Candidate& candidate, const std::vector<std::string>& options);

// As messages name it: "cholesky.cu".
std::string source_file(const spec::Candidate& candidate);

// 64 hex digits, of all that decides the cubin.
std::string source_key(const spec::Candidate& candidate, const std::vector<std::string>& options);

}  // namespace mlx_kd::devices::cuda
