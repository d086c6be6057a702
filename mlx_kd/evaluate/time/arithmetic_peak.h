// How fast this machine computes: the other thing that no honest kernel beats.
#pragma once

namespace mlx_kd::evaluate {

// float32 operations per us (a fused multiply-add counts two) of independent vector operations on
// `cores` cores at once, with the widest instructions that the processor has. Takes about 5 ms;
// best of several passes.
double measure_flops(int cores);

}  // namespace mlx_kd::evaluate
