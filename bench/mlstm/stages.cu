// Times the stages of mlstm_chunkwise, or with -DGRADIENT of its gradient, on an NVIDIA GPU without MLX: bfloat16, 16 heads
// a sequence, DHQK 128, DHHV 256, exponential gates. Prints a JSON object: medians of 6 runs between events, in ms.
//
//   nvcc -std=c++17 -O2 -arch=sm_90 [-DGRADIENT] -o stages bench/mlstm/stages.cu && ./stages SEQUENCES TOKENS
//
// Sizes, groups and shared memory are those of mlx_kd/kernels/mlstm/cuda_variant.cpp.
// clang-format off
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#ifdef GRADIENT
#include "../../mlx_kd/kernels/mlstm/mlstm_chunkwise/mlstm_chunkwise_vjp.cu"
#else
#include "../../mlx_kd/kernels/mlstm/mlstm_chunkwise/mlstm_chunkwise.cu"
#endif

static void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "[bench] %s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

static __device__ float number_at(long i, unsigned seed) {  // uniform, of variance 1
  unsigned x = (unsigned)i * 2654435761u + seed;
  x ^= x >> 15, x *= 0x2c1b3c6du, x ^= x >> 12, x *= 0x297a2d39u, x ^= x >> 15;
  return ((x & 0xffff) / 32768.0f - 1) * 1.73f;
}
__global__ void fill(T* to, long count, unsigned seed) {
  for (long i = blockIdx.x * 256L + threadIdx.x; i < count; i += gridDim.x * 256L) to[i] = narrow(number_at(i, seed));
}
__global__ void fill(float* to, long count, unsigned seed, float middle) {
  for (long i = blockIdx.x * 256L + threadIdx.x; i < count; i += gridDim.x * 256L) to[i] = middle + number_at(i, seed);
}

static void* memory(long bytes) {
  void* made;
  check(cudaMalloc(&made, bytes), "no memory for the arrays");
  check(cudaMemset(made, 0xff, bytes), "filling an array");
  return made;
}
static void* numbers(long count, unsigned seed) {
  T* const made = (T*)memory(2 * count);
  fill<<<2048, 256>>>(made, count, seed);
  return made;
}
static void* floats(long count, unsigned seed, float middle) {
  float* const made = (float*)memory(4 * count);
  fill<<<2048, 256>>>(made, count, seed, middle);
  return made;
}

struct Stage {
  const char* name;
  void (*run)(kd_arguments);
  long groups, rows;
  int threads, shared_kib;
};

int main(int count, char** words) {
  if (count != 3) return fprintf(stderr, "[bench] give the number of sequences and of their tokens\n"), 2;
  const long heads = 16 * atol(words[1]), S = atol(words[2]), qk = 128, hv = 256, tokens = heads * S;
  const long chunks = heads * ((S + 127) / 128), by_chunk = (chunks + 63) / 64, by_head = (heads + 63) / 64;
  kd_arguments a = {};
  const long dims[] = {heads, S, qk, hv, 0, 1, 1, 0, 0};
  std::copy(dims, dims + 9, a.dims);
  a.scalars[0] = 1e-6, a.stage = 128;
  a.inputs[0] = numbers(tokens * qk, 1), a.inputs[1] = numbers(tokens * qk, 2), a.inputs[2] = numbers(tokens * hv, 3);
  a.inputs[3] = floats(tokens, 4, 0), a.inputs[4] = floats(tokens, 5, 3);
  a.scratch[0] = memory(tokens * 68), a.scratch[1] = memory(4 * chunks * qk * hv);
  a.scratch[2] = memory(4 * (2 * chunks * qk + heads + chunks * 8) + chunks * 16), a.scratch[3] = memory(chunks * 28);
#ifdef GRADIENT
#define STAGE(name) #name, mlx_kd_mlstm_chunkwise_vjp##name
  a.inputs[8] = numbers(tokens * hv, 6), a.inputs[9] = floats(heads * qk * hv, 7, 0);
  a.inputs[10] = floats(heads * qk, 8, 0), a.inputs[11] = floats(heads, 9, 0);
  a.outputs[0] = memory(2 * tokens * qk), a.outputs[1] = memory(2 * tokens * qk), a.outputs[2] = memory(2 * tokens * hv);
  a.outputs[3] = memory(4 * tokens), a.outputs[4] = memory(4 * tokens);
  const std::vector<Stage> stages = {
      {STAGE(_steps), by_chunk, 1, 64, 0}, {STAGE(_course), by_head, 1, 64, 0}, {STAGE(_gates), by_chunk, 1, 64, 0},
      {STAGE(_scan), heads, 8, 256, 111}, {STAGE(_queries), chunks, 1, 256, 219}, {STAGE(_scan_back), heads, 8, 256, 111},
      {STAGE(_keys), chunks, 1, 256, 219}, {STAGE(_turns), by_chunk, 1, 64, 0}, {STAGE(_carry), by_head, 1, 64, 0},
      {STAGE(), by_chunk, 1, 64, 0}};
#else
#define STAGE(name) #name, mlx_kd_mlstm_chunkwise##name
  a.outputs[0] = memory(2 * tokens * hv), a.outputs[1] = memory(4 * heads * qk * hv);
  a.outputs[2] = memory(4 * heads * qk), a.outputs[3] = memory(4 * heads);
  const std::vector<Stage> stages = {
      {STAGE(_steps), by_chunk, 1, 64, 0}, {STAGE(_course), by_head, 1, 64, 0}, {STAGE(_gates), by_chunk, 1, 64, 0},
      {STAGE(_scan), heads, 8, 256, 111}, {STAGE(_rows16), chunks, 2, 256, 104}};
#endif
  std::vector<cudaEvent_t> events(stages.size() + 1);
  for (cudaEvent_t& event : events) check(cudaEventCreate(&event), "an event");
  for (const Stage& stage : stages)
    check(cudaFuncSetAttribute((const void*)stage.run, cudaFuncAttributeMaxDynamicSharedMemorySize, stage.shared_kib << 10), "shared memory of a stage");
  std::vector<std::vector<float>> ms(stages.size() + 1);
  for (int round = 0; round < 7; ++round) {
    cudaEventRecord(events[0]);
    for (size_t i = 0; i < stages.size(); ++i) {
      stages[i].run<<<dim3(stages[i].groups, stages[i].rows), stages[i].threads, stages[i].shared_kib << 10>>>(a);
      check(cudaGetLastError(), "a launch");
      cudaEventRecord(events[i + 1]);
    }
    check(cudaDeviceSynchronize(), "a stage");
    for (size_t i = 0; i < ms.size() && round > 0; ++i) {
      float took;
      const bool is_stage = i < stages.size();
      cudaEventElapsedTime(&took, events[is_stage ? i : 0], events[is_stage ? i + 1 : stages.size()]);
      ms[i].push_back(took);
    }
  }
  printf("{\"sequences\": %ld, \"tokens\": %ld", heads / 16, S);
  for (size_t i = 0; i < ms.size(); ++i) {
    std::sort(ms[i].begin(), ms[i].end());
    printf(", \"%s\": %.3f", i == stages.size() ? "all" : *stages[i].name ? stages[i].name + 1 : "gradients", ms[i][3]);
  }
  printf("}\n");
}
