// Small kernels in CUDA C++ for the tests and what they need to run.
#pragma once

#include <gtest/gtest.h>

#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/cuda/stage_program.h"

namespace mlx_kd::devices::cuda {

#define KD_NEEDS_NVRTC() \
  if (std::string why; !find_nvrtc(&why)) GTEST_SKIP() << "no NVRTC: " << why
#define KD_NEEDS_GPU() \
  KD_NEEDS_NVRTC();    \
  if (std::string why; !find_gpu(&why)) GTEST_SKIP() << "no GPU: " << why
#define KD_NEEDS_NATIVE() \
  KD_NEEDS_GPU();         \
  if (std::string why; !find_native(&why)) GTEST_SKIP() << "no native module: " << why

inline std::string with_arguments(const std::string& text) {
  const char* const file = MLX_KD_SOURCE_DIR "/mlx_kd/kernels/common/kd_arguments.h";
  return base::read_file(file, "test") + "\n#line 1\n" + text;
}

inline CudaSource source_of(const std::string& name, const std::string& text,
                            const std::string& func_name) {
  CudaSource source;
  source.op_name = name;
  source.file = name + ".cu";
  source.text = with_arguments(text);
  source.func_name = func_name;
  return source;
}

// Sums of rows in two stages: parts into scratch memory (three-dimensional groups, more than 48 KiB
// of shared memory, any stride between rows), then their total times `scale`. `seen` tells what the
// second stage saw.
inline CudaSource totals_source() {
  CudaSource source = source_of("totals", R"(
extern "C" __global__ void kd_parts(const __grid_constant__ kd_arguments a) {
  extern __shared__ float kept[];
  const long D = a.dims[KD_DIM_D], row = blockIdx.y;
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const float* x = static_cast<const float*>(a.inputs[0]) + row * a.strides[0][2];
  float sum = 0;
  for (long j = blockIdx.x * threads + thread; j < D; j += threads * gridDim.x) sum += x[j];
  kept[thread * 56] = sum;
  __syncthreads();
  if (thread != 0) return;
  float all = 0;
  for (int i = 0; i < threads; ++i) all += kept[i * 56];
  static_cast<float*>(a.scratch[0])[row * PARTS + blockIdx.x] = all;
}
extern "C" __global__ void kd_total(const __grid_constant__ kd_arguments a) {
  const long row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= a.dims[KD_DIM_rows]) return;
  float all = 0;
  for (int i = 0; i < PARTS; ++i) all += static_cast<const float*>(a.scratch[0])[row * PARTS + i];
  static_cast<float*>(a.outputs[0])[row] = static_cast<float>(a.scalars[KD_SCALAR_scale]) * all;
  static_cast<unsigned*>(a.outputs[1])[row] = 100 * KD_TYPE_seen + static_cast<unsigned>(a.stage);
}
)",
                                "kd_parts");
  source.inputs = {{"x", ElementType::float32, true}};
  source.outputs = {{"total", ElementType::float32}, {"seen", ElementType::uint32}};
  source.dim_names = {"rows", "D"};
  source.scalar_names = {"scale"};
  source.knobs.set("PARTS", 3);
  return source;
}

inline LaunchPlan totals_plan(int64_t rows, int64_t columns, double scale) {
  LaunchPlan plan;
  plan.dims = {{"rows", rows}, {"D", columns}};
  plan.scalars = {scale};
  plan.stages = {{"kd_parts", {3 * 8, rows * 8, 4}, {8, 8, 4}, 256 * 56 * 4},
                 {"kd_total", {rows, 1, 1}, {64, 1, 1}, 0, {1, 1, 1}, 7}};
  plan.scratch_bytes = {rows * 3 * 4};
  return plan;
}

// Writes `row` [D] into row `offset` of `cache` [S, D], in place.
inline CudaSource put_source() {
  CudaSource source = source_of("put", R"(
extern "C" __global__ void kd_put(const __grid_constant__ kd_arguments a) {
  const long D = a.dims[KD_DIM_D], j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j < D)
    static_cast<float*>(a.outputs[0])[static_cast<long>(a.scalars[0]) * D + j] =
        static_cast<const float*>(a.inputs[1])[j];
}
)",
                                "kd_put");
  source.inputs = {{"cache"}, {"row"}};
  source.outputs = {{"out", ElementType::float32, false, 0}};
  source.dim_names = {"S", "D"};
  source.scalar_names = {"offset"};
  return source;
}

inline LaunchPlan put_plan(int64_t rows, int64_t columns, double offset) {
  LaunchPlan plan;
  plan.dims = {{"S", rows}, {"D", columns}};
  plan.scalars = {offset};
  plan.stages = {{"kd_put", {columns, 1, 1}, {128, 1, 1}}};
  return plan;
}

// y = x + the number of stages.
inline CudaSource steps_source() {
  CudaSource source = source_of("steps", R"(
extern "C" __global__ void kd_step(const __grid_constant__ kd_arguments a) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  const float* from = static_cast<const float*>(a.stage ? a.outputs[0] : a.inputs[0]);
  if (i < a.dims[KD_DIM_N]) static_cast<float*>(a.outputs[0])[i] = from[i] + 1;
}
)",
                                "kd_step");
  source.inputs = {{"x"}};
  source.outputs = {{"y"}};
  source.dim_names = {"N"};
  return source;
}

inline LaunchPlan steps_plan(int64_t count, int64_t stages) {
  LaunchPlan plan;
  plan.dims = {{"N", count}};
  for (int64_t i = 0; i < stages; ++i)
    plan.stages.push_back({"kd_step", {count, 1, 1}, {256, 1, 1}, 0, {1, 1, 1}, i});
  return plan;
}

// Where each group stands in its cluster: 100 x size + rank.
inline CudaSource clusters_source() {
  CudaSource source = source_of("clusters", R"(
extern "C" __global__ void kd_ranks(const __grid_constant__ kd_arguments a) {
  unsigned rank, size;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  if (threadIdx.x == 0)
    static_cast<int*>(a.outputs[0])[blockIdx.x] =
        100 * static_cast<int>(size) + static_cast<int>(rank) +
        static_cast<const int*>(a.inputs[0])[blockIdx.x];
}
)",
                                "kd_ranks");
  source.inputs = {{"x", ElementType::int32}};
  source.outputs = {{"ranks", ElementType::int32}};
  return source;
}

inline LaunchPlan clusters_plan(int64_t groups, int64_t cluster) {
  LaunchPlan plan;
  plan.stages = {{"kd_ranks", {groups * 32, 1, 1}, {32, 1, 1}, 0, {cluster, 1, 1}}};
  return plan;
}

inline std::unique_ptr<StageProgram> load(const CudaSource& source) {
  const Cubin cubin = compile_source(source, cuda_source_options(source, gpu().sm));
  EXPECT_FALSE(cubin.bytes.empty()) << cubin.error;
  use_gpu();
  return std::make_unique<StageProgram>(cubin.bytes, source);
}

}  // namespace mlx_kd::devices::cuda
