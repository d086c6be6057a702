// CUDA text, translated from Metal or written so -> machine code for one architecture, by NVRTC.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/msl/prelude.h"
#include "mlx_kd/msl/text/preprocess.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices::cuda {

// Machine code, or why there is none: the first error, with the place in the Metal text where it
// has one ("k.metal:12: identifier \"x\" is undefined").
struct Cubin {
  std::string bytes;  // empty: it was refused
  std::string error;
};

// Registers that a thread of a group may have, 0 where the compiler decides: a multiprocessor has
// 65,536 and the compiler may give a thread 255, so a group of more than 256 threads could be too
// large to launch.
int register_limit(int64_t group_threads);

// The options of a kernel. sm: 90 for sm_90. group_threads: of the largest threadgroup that it is
// launched in, for register_limit. Leave it out for kernels that state
// max_total_threads_per_threadgroup, which takes care of that.
std::vector<std::string> nvrtc_options(int sm, int64_t group_threads = 256);

// "nvrtc 13.0"
std::string nvrtc_version();

// CUDA text that may include the headers of `headers` by their names: the prelude, unless others
// are given. `name` is what messages call the text. Thread-safe; holds no lock while NVRTC works.
// Fails (exit 1) where there is no NVRTC.
using Headers = std::map<std::string, std::string>;
Cubin compile_cuda(const std::string& name, const std::string& text,
                   const std::vector<std::string>& options,
                   const Headers& headers = msl::prelude());

}  // namespace mlx_kd::devices::cuda
