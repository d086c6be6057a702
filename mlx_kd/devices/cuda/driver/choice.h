// Which GPU of several this process uses.
#pragma once

#include <string>

namespace mlx_kd::devices::cuda {

// What CUDA_VISIBLE_DEVICES becomes so that the GPU of that index is the only one: an entry of the
// value it has (null: it is not set). Misuse, naming how many there are, from `count` on.
std::string visible_of(const char* visible, int index, int count);

// That GPU becomes the first and only one that the driver, MLX and processes started from here see:
// CUDA_VISIBLE_DEVICES says so. How many there are is asked in a process of its own, because a
// driver that was started once does not look again. Where none is shown, nothing is chosen. Before
// anything of CUDA runs in this process.
void choose_gpu(int index);

}  // namespace mlx_kd::devices::cuda
