// The module: MLX's CUDA command encoder as native_api.h calls it.
#include "mlx/backend/cuda/device.h"
#include "mlx/version.h"
#include "mlx_kd/devices/cuda/module/output_pool.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

// Outputs this small lie in memory of MLX that the host reads without moving it.
constexpr size_t kHostReadable = 8;

mx::cu::CommandEncoder& at(void* encoder) {
  return *static_cast<mx::cu::CommandEncoder*>(encoder);
}

void* encoder_of(const mx::Stream& stream) {
  return &mx::cu::get_command_encoder(stream);
}

void give_memory(void* encoder, const mx::Stream& stream, mx::array& output) {
  if (output.nbytes() <= kHostReadable)
    output.set_data(mx::allocator::malloc(output.nbytes()));
  else
    output.set_data(OutputPool::of(stream).take(output.nbytes(), at(encoder)));
}

void* address(const mx::array& array) {
  return mx::gpu_ptr<void>(array);
}

void* scratch(void* encoder, const mx::Stream& stream, size_t bytes) {
  const mx::array memory(OutputPool::of(stream).take(bytes, at(encoder)), {1}, mx::uint8);
  at(encoder).add_temporary(memory);
  return address(memory);
}

void keep(void* encoder, const mx::array& array) {
  at(encoder).add_temporary(array);
}

dim3 three(const unsigned (&size)[3]) {
  return dim3(size[0], size[1], size[2]);
}

void add(void* encoder, const NativeNode& node, void** parameters,
         std::span<const mx::array* const> inputs, const std::vector<mx::array>& outputs) {
  mx::cu::CommandEncoder& to = at(encoder);
  for (const mx::array* input : inputs) to.set_input_array(*input);
  for (const mx::array& output : outputs) to.set_output_array(output);
  const bool clusters = node.cluster[0] > 1 || node.cluster[1] > 1 || node.cluster[2] > 1;
  if (!clusters) {
    to.add_kernel_node_raw(static_cast<CUfunction>(node.function), three(node.blocks),
                           three(node.threads), dim3(1, 1, 1), node.shared_bytes, parameters);
    return;
  }
  void* graph = host().make_cluster_graph(node, parameters);
  to.add_graph_node(static_cast<cudaGraph_t>(graph));
  host().destroy_graph(graph);
}

}  // namespace
}  // namespace mlx_kd::devices::cuda

extern "C" {

__attribute__((visibility("default"))) const mlx_kd::devices::cuda::NativeAbout*
mlx_kd_cuda_native_about() {
  using namespace mlx_kd::devices::cuda;
  static const NativeAbout about = {kNativeInterface, MLX_KD_NATIVE_MLX_VERSION,
                                    CUDART_VERSION / 1000, MLX_KD_NATIVE_HEADERS};
  return &about;
}

__attribute__((visibility("default"))) const mlx_kd::devices::cuda::NativeApi* mlx_kd_cuda_native(
    const mlx_kd::devices::cuda::NativeHost* host) {
  using namespace mlx_kd::devices::cuda;
  static const NativeApi api = {encoder_of, give_memory,           scratch, keep, address,
                                add,        OutputPool::idle_bytes};
  set_host(host);
  return &api;
}
}
