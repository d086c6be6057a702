// Small kernels in CUDA C++ for the tests and what they need to run.
#pragma once

#include <gtest/gtest.h>

#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/cuda/call/stage_program.h"

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

inline spec::Candidate cuda_candidate(const std::string& name, const std::string& text,
                                      const std::string& func_name) {
  spec::Candidate made;
  made.op_name = made.variant = name;
  made.language = "cuda";
  made.source = with_arguments(text);
  made.func_name = func_name;
  made.inputs_spec = made.outputs_spec = base::Json::array();
  made.launch_params = {{"launch_kind", "cuda_arguments"}};
  return made;
}

inline base::Json port(const std::string& name, const std::string& dtype = "float32") {
  return {{"name", name}, {"dtype", dtype}};
}

inline spec::Stage stage(const std::string& func_name, const std::array<int64_t, 3>& grid,
                         const std::array<int64_t, 3>& group, int64_t shared_bytes = 0,
                         const std::array<int64_t, 3>& cluster = {1, 1, 1}, int64_t index = 0) {
  return {func_name, {grid, group, 1, shared_bytes, cluster}, index};
}

// Sums of rows in two stages: parts into scratch memory (three-dimensional groups, more than 48 KiB
// of shared memory, any stride between rows), then their total times `scale`. `seen` tells what the
// second stage saw.
inline spec::Candidate totals_candidate() {
  spec::Candidate made = cuda_candidate("totals", R"(
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
  made.inputs_spec = {port("x")};
  made.outputs_spec = {port("total"), port("seen", "uint32")};
  made.dim_names = {"rows", "D"};
  made.scalar_names = {"scale"};
  made.knobs.set("PARTS", 3);
  return made;
}

inline Call totals_call(int64_t rows, int64_t columns, double scale) {
  Call call{{{"rows", rows}, {"D", columns}}, {scale}};
  call.stages = {stage("kd_parts", {3 * 8, rows * 8, 4}, {8, 8, 4}, 256 * 56 * 4),
                 stage("kd_total", {rows, 1, 1}, {64, 1, 1}, 0, {1, 1, 1}, 7)};
  call.inputs = {{{rows, columns}}};
  call.outputs = {{{rows}}, {{rows}, spec::Dtype::uint32}};
  call.scratch = {rows * 3 * 4};
  call.strided = {true};
  return call;
}

// Writes `row` [D] into row `offset` of `cache` [S, D], in place.
inline spec::Candidate put_candidate() {
  spec::Candidate made = cuda_candidate("put", R"(
extern "C" __global__ void kd_put(const __grid_constant__ kd_arguments a) {
  const long D = a.dims[KD_DIM_D], j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j < D)
    static_cast<float*>(a.outputs[0])[static_cast<long>(a.scalars[0]) * D + j] =
        static_cast<const float*>(a.inputs[1])[j];
}
)",
                                        "kd_put");
  made.inputs_spec = {port("cache"), port("row")};
  made.outputs_spec = {port("out")};
  made.dim_names = {"S", "D"};
  made.scalar_names = {"offset"};
  return made;
}

inline Call put_call(int64_t rows, int64_t columns, double offset) {
  Call call{{{"S", rows}, {"D", columns}}, {offset}};
  call.stages = {stage("kd_put", {columns, 1, 1}, {128, 1, 1})};
  call.inputs = {{{rows, columns}}, {{columns}}};
  call.outputs = {{{rows, columns}}};
  call.updates = {0};
  return call;
}

// y = x + the number of stages.
inline spec::Candidate steps_candidate() {
  spec::Candidate made = cuda_candidate("steps", R"(
extern "C" __global__ void kd_step(const __grid_constant__ kd_arguments a) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  const float* from = static_cast<const float*>(a.stage ? a.outputs[0] : a.inputs[0]);
  if (i < a.dims[KD_DIM_N]) static_cast<float*>(a.outputs[0])[i] = from[i] + 1;
}
)",
                                        "kd_step");
  made.inputs_spec = {port("x")};
  made.outputs_spec = {port("y")};
  made.dim_names = {"N"};
  return made;
}

inline Call steps_call(int64_t count, int64_t stages) {
  Call call{{{"N", count}}};
  for (int64_t i = 0; i < stages; ++i)
    call.stages.push_back(stage("kd_step", {count, 1, 1}, {256, 1, 1}, 0, {1, 1, 1}, i));
  call.inputs = call.outputs = {{{count}}};
  return call;
}

// Where each group stands in its cluster: 100 x size + rank.
inline spec::Candidate clusters_candidate() {
  spec::Candidate made = cuda_candidate("clusters", R"(
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
  made.inputs_spec = {port("x", "int32")};
  made.outputs_spec = {port("ranks", "int32")};
  return made;
}

inline Call clusters_call(int64_t groups, int64_t cluster) {
  Call call;
  call.stages = {stage("kd_ranks", {groups * 32, 1, 1}, {32, 1, 1}, 0, {cluster, 1, 1})};
  call.inputs = call.outputs = {{{groups}, spec::Dtype::int32}};
  return call;
}

inline std::unique_ptr<StageProgram> load(const spec::Candidate& candidate) {
  const Cubin cubin = compile_source(candidate, source_options(candidate, gpu().sm));
  EXPECT_FALSE(cubin.bytes.empty()) << cubin.error;
  use_gpu();
  return std::make_unique<StageProgram>(cubin.bytes, candidate);
}

}  // namespace mlx_kd::devices::cuda
