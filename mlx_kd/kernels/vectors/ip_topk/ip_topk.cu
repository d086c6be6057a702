// clang-format off
// ip_topk: the k rows of base of largest inner product with each query; ../flat.cu.h says how.
//
// Inputs queries (M, D), base (N, D), float32 whatever the type of the call; outputs distances (M, k) and ids (M, k),
// the best first.
#undef KD_DTYPE
#define KD_DTYPE 0
#define INNER 1
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_k 3
#endif

#include "../scan.cu.h"

extern "C" __global__ void __launch_bounds__(256) mlx_kd_ip_topk_limits(const __grid_constant__ kd_arguments a) {
  find_limits(a);
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_ip_topk_rows(const __grid_constant__ kd_arguments a) {
  find_in_rows(a);
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_ip_topk(const __grid_constant__ kd_arguments a) {
  finish_flat(a);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void __launch_bounds__(kScanThreads, 1)
    mlx_kd_ip_topk_samples8(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  scan_tiles<8, true>(a, maps);
}

extern "C" __global__ void __launch_bounds__(kScanThreads, 1)
    mlx_kd_ip_topk_samples64(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  scan_tiles<64, true>(a, maps);
}

extern "C" __global__ void __launch_bounds__(kScanThreads, 1)
    mlx_kd_ip_topk_scan8(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  scan_tiles<8, false>(a, maps);
}

extern "C" __global__ void __launch_bounds__(kScanThreads, 1)
    mlx_kd_ip_topk_scan64(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  scan_tiles<64, false>(a, maps);
}
#endif
