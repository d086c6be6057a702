// The module: MLX's CUDA command encoder as native_api.h calls it.
#include "mlx/backend/cuda/device.h"
#include "mlx/version.h"
#include "mlx_kd/devices/cuda/call/native_api.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

const NativeHost* the_host = nullptr;

mx::cu::CommandEncoder& at(void* encoder) {
  return *static_cast<mx::cu::CommandEncoder*>(encoder);
}

void* encoder_of(const mx::Stream& stream) {
  return &mx::cu::get_command_encoder(stream);
}

void* address(const mx::array& array) {
  return mx::gpu_ptr<void>(array);
}

void keep(void* encoder, const mx::array& array) {
  at(encoder).add_temporary(array);
}

// MLX does not say it; the headers that this was built with are checked when it is loaded.
long holders(const mx::array& array) {
  static_assert(sizeof(mx::array) == sizeof(std::shared_ptr<void>));
  return reinterpret_cast<const std::shared_ptr<void>&>(array).use_count();
}

// What MLX keeps to itself can be named where a template is instantiated by hand.
template <int mx::cu::CommandEncoder::*member>
struct Nodes {
  friend int nodes_of(mx::cu::CommandEncoder& encoder) { return encoder.*member; }
};
int nodes_of(mx::cu::CommandEncoder& encoder);
template struct Nodes<&mx::cu::CommandEncoder::node_count_>;

// A commit without nodes would still start a task on another thread.
void* stream_of(void* encoder) {
  mx::cu::CommandEncoder& to = at(encoder);
  if (nodes_of(to) > 0) to.commit();
  return static_cast<cudaStream_t>(to.stream());
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
  void* graph = the_host->make_cluster_graph(node, parameters);
  to.add_graph_node(static_cast<cudaGraph_t>(graph));
  the_host->destroy_graph(graph);
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
  static const NativeApi api = {encoder_of, keep, holders, address, stream_of, add};
  the_host = host;
  return &api;
}
}
