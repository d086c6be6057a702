// What the program and the loadable module mlx_kd_cuda_native say to one another. The module alone
// is compiled against MLX's CUDA headers and CUDA's; it calls MLX's command encoder. The program
// decides what is launched, on which memory.
//
// The module exports two C functions:
//   const NativeAbout* mlx_kd_cuda_native_about();           callable before anything is checked
//   const NativeApi* mlx_kd_cuda_native(const NativeHost*);  once, after the checks
// Both sides are of one build: kNativeInterface differs otherwise.
#pragma once

#include <span>
#include <vector>

#include "mlx/array.h"
#include "mlx/stream.h"

namespace mlx_kd::devices::cuda {

inline constexpr int kNativeInterface = 3;

// What the module was built against.
struct NativeAbout {
  int interface;            // kNativeInterface
  const char* mlx_version;  // "0.32.4"
  int cuda_major;           // of CUDA's headers: 13
  // MLX's headers that the module includes: "mlx/array.h=<SHA-256>;...".
  const char* headers;
};

// One kernel launch, as the driver takes it.
struct NativeNode {
  void* function;  // CUfunction
  unsigned blocks[3], threads[3], cluster[3];
  unsigned shared_bytes;  // dynamic
  // The kernel waits by itself for what runs before it: it may be started while that still runs.
  bool early = false;
};

// What the program does for the module, by the CUDA driver. Failures are errors (exit 1).
struct NativeHost {
  // A graph of one kernel with clusters, which MLX's nodes do not tell apart.
  void* (*make_cluster_graph)(const NativeNode& node, void** parameters);
  void (*destroy_graph)(void* graph);
};

// One evaluation of a primitive: encoder(), then add() per node. On the thread that evaluates;
// `encoder` belongs to the stream.
struct NativeApi {
  // Throws as MLX does where the thread has no such stream.
  void* (*encoder)(const mlx::core::Stream& stream);
  // Keeps an array until the kernels added so far and later ones of this graph are done.
  void (*keep)(void* encoder, const mlx::core::array& array);
  // How many arrays share the array's description: 1 if no other array does.
  long (*holders)(const mlx::core::array& array);
  // The address on the GPU of the first element.
  void* (*address)(const mlx::core::array& array);
  // The encoder's stream (CUstream), after all that was added before was launched on it.
  void* (*stream)(void* encoder);
  // A node that runs after all that wrote `inputs` and `outputs`. parameters: as cuLaunchKernel's,
  // copied before it returns.
  void (*add)(void* encoder, const NativeNode& node, void** parameters,
              std::span<const mlx::core::array* const> inputs,
              const std::vector<mlx::core::array>& outputs);
};

}  // namespace mlx_kd::devices::cuda
