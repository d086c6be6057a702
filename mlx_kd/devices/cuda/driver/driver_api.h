// The CUDA driver and NVRTC, loaded when they are first asked for: the program needs neither a GPU
// nor a toolkit to be built or started. The types and numbers are those of their published
// interfaces, CUDA 12 and later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mlx_kd::devices::cuda {

using Result = int;  // 0: it worked
using Address = uint64_t;
using Context = struct OpaqueContext*;
using Module = struct OpaqueModule*;
using Function = struct OpaqueFunction*;
using Stream = struct OpaqueStream*;
using Event = struct OpaqueEvent*;
using Graph = struct OpaqueGraph*;
using GraphNode = struct OpaqueGraphNode*;
using GraphExec = struct OpaqueGraphExec*;
using Program = struct OpaqueProgram*;  // of NVRTC

// CUlaunchAttribute with the one value that is used here, the blocks per cluster.
struct LaunchAttribute {
  int id;  // kClusterAttribute, kEarlyAttribute
  int padding;
  unsigned cluster[16];  // x, y, z, or 1 in the first; the driver's union has 64 bytes
};
inline constexpr int kClusterAttribute = 4, kEarlyAttribute = 6;

// CUlaunchConfig.
struct LaunchConfig {
  unsigned blocks[3], threads[3], dynamic_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

// CUDA_KERNEL_NODE_PARAMS, second version.
struct KernelNode {
  Function function;
  unsigned blocks[3], threads[3], dynamic_bytes;
  void** parameters;
  void** extra;
  void* kernel;
  Context context;
};

// X(member, result and parameters, name in the library)
#define KD_DRIVER_FUNCTIONS(X)                                                                     \
  X(init, Result(unsigned), "cuInit")                                                              \
  X(driver_version, Result(int*), "cuDriverGetVersion")                                            \
  X(error_string, Result(Result, const char**), "cuGetErrorString")                                \
  X(device_count, Result(int*), "cuDeviceGetCount")                                                \
  X(device_get, Result(int*, int), "cuDeviceGet")                                                  \
  X(device_name, Result(char*, int, int), "cuDeviceGetName")                                       \
  X(device_attribute, Result(int*, int, int), "cuDeviceGetAttribute")                              \
  X(context_retain, Result(Context*, int), "cuDevicePrimaryCtxRetain")                             \
  X(context_set, Result(Context), "cuCtxSetCurrent")                                               \
  X(allocate, Result(Address*, size_t), "cuMemAlloc_v2")                                           \
  X(release, Result(Address), "cuMemFree_v2")                                                      \
  X(write, Result(Address, const void*, size_t), "cuMemcpyHtoD_v2")                                \
  X(read, Result(void*, Address, size_t), "cuMemcpyDtoH_v2")                                       \
  X(copy_async, Result(Address, Address, size_t, Stream), "cuMemcpyDtoDAsync_v2")                  \
  X(fill, Result(Address, unsigned char, size_t), "cuMemsetD8_v2")                                 \
  X(fill_async, Result(Address, unsigned char, size_t, Stream), "cuMemsetD8Async")                 \
  X(module_load, Result(Module*, const void*), "cuModuleLoadData")                                 \
  X(module_unload, Result(Module), "cuModuleUnload")                                               \
  X(module_function, Result(Function*, Module, const char*), "cuModuleGetFunction")                \
  X(function_set, Result(Function, int, int), "cuFuncSetAttribute")                                \
  X(function_get, Result(int*, int, Function), "cuFuncGetAttribute")                               \
  X(launch,                                                                                        \
    Result(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, \
           void**, void**),                                                                        \
    "cuLaunchKernel")                                                                              \
  X(launch_config, Result(const LaunchConfig*, Function, void**, void**), "cuLaunchKernelEx")      \
  X(stream_create, Result(Stream*, unsigned), "cuStreamCreate")                                    \
  X(stream_destroy, Result(Stream), "cuStreamDestroy_v2")                                          \
  X(stream_wait, Result(Stream), "cuStreamSynchronize")                                            \
  X(stream_query, Result(Stream), "cuStreamQuery")                                                 \
  X(capture_begin, Result(Stream, int), "cuStreamBeginCapture_v2")                                 \
  X(capture_end, Result(Stream, Graph*), "cuStreamEndCapture")                                     \
  X(event_create, Result(Event*, unsigned), "cuEventCreate")                                       \
  X(event_destroy, Result(Event), "cuEventDestroy_v2")                                             \
  X(event_record, Result(Event, Stream, unsigned), "cuEventRecordWithFlags")                       \
  X(event_ms, Result(float*, Event, Event), "cuEventElapsedTime")                                  \
  X(graph_create, Result(Graph*, unsigned), "cuGraphCreate")                                       \
  X(graph_add_kernel, Result(GraphNode*, Graph, const GraphNode*, size_t, const KernelNode*),      \
    "cuGraphAddKernelNode_v2")                                                                     \
  X(graph_set_attribute, Result(GraphNode, int, const unsigned*), "cuGraphKernelNodeSetAttribute") \
  X(graph_instantiate, Result(GraphExec*, Graph, unsigned long long),                              \
    "cuGraphInstantiateWithFlags")                                                                 \
  X(graph_launch, Result(GraphExec, Stream), "cuGraphLaunch")                                      \
  X(encode_tiles,                                                                                  \
    Result(void*, int, unsigned, void*, const unsigned long long*, const unsigned long long*,      \
           const unsigned*, const unsigned*, int, int, int, int),                                  \
    "cuTensorMapEncodeTiled")                                                                      \
  X(graph_destroy, Result(Graph), "cuGraphDestroy")                                                \
  X(graph_exec_destroy, Result(GraphExec), "cuGraphExecDestroy")

#define KD_NVRTC_FUNCTIONS(X)                                                                \
  X(version, Result(int*, int*), "nvrtcVersion")                                             \
  X(error_string, const char*(Result), "nvrtcGetErrorString")                                \
  X(create,                                                                                  \
    Result(Program*, const char*, const char*, int, const char* const*, const char* const*), \
    "nvrtcCreateProgram")                                                                    \
  X(compile, Result(Program, int, const char* const*), "nvrtcCompileProgram")                \
  X(cubin_size, Result(Program, size_t*), "nvrtcGetCUBINSize")                               \
  X(cubin, Result(Program, char*), "nvrtcGetCUBIN")                                          \
  X(log_size, Result(Program, size_t*), "nvrtcGetProgramLogSize")                            \
  X(log, Result(Program, char*), "nvrtcGetProgramLog")                                       \
  X(destroy, Result(Program*), "nvrtcDestroyProgram")

template <class Signature>
struct Entry;
template <class R, class... A>
struct Entry<R(A...)> {
  using type = R (*)(A...);
};

#define KD_MEMBER(member, signature, name) typename Entry<signature>::type member = nullptr;
struct Driver {
  KD_DRIVER_FUNCTIONS(KD_MEMBER)
};
struct Nvrtc {
  KD_NVRTC_FUNCTIONS(KD_MEMBER)
};
#undef KD_MEMBER

// nullptr where the library is missing; the reason is then in `why`, for a person. NVRTC is looked
// for under the name that MLX_KD_NVRTC gives, then under its own, then next to MLX. Thread-safe,
// once for each process.
const Driver* find_driver(std::string* why = nullptr);
const Nvrtc* find_nvrtc(std::string* why = nullptr);

// The same; fail (exit 1) where it is missing.
const Driver& driver();
const Nvrtc& nvrtc();

// The folder of the MLX that this process runs with: it has lib/ and include/, and is next to
// the nvidia wheels where there are any.
std::filesystem::path mlx_folder();

// Fails (exit 1) with the driver's words where a call of it did not work.
void check(Result result, const char* doing);

}  // namespace mlx_kd::devices::cuda
