#include "mlx_kd/devices/cuda/call/staged_program.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cuda {

namespace mx = mlx::core;

void CallScratch::reserve(const std::vector<int64_t>& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto needed = static_cast<size_t>(wanted[i]);
    if (needed <= bytes_[i]) continue;
    kept_.emplace_back(wanted[i]);
    bytes_[i] = needed;
    memory_[i] = reinterpret_cast<void*>(kept_.back().at());
  }
}

void launch_node(const NativeNode& node, void** parameters, Stream stream, bool may_overlap) {
  LaunchConfig config = {};
  std::array<LaunchAttribute, 2> attributes = {};
  LaunchAttribute cluster = {kClusterAttribute, 0, {}};
  unsigned of_cluster = 1;
  for (size_t d = 0; d < 3; ++d) {
    config.blocks[d] = node.blocks[d];
    config.threads[d] = node.threads[d];
    cluster.cluster[d] = node.cluster[d];
    of_cluster *= node.cluster[d];
  }
  config.dynamic_bytes = node.shared_bytes;
  config.stream = stream;
  config.attributes = attributes.data();
  if (of_cluster > 1) attributes[config.attribute_count++] = cluster;
  if (may_overlap && node.early) attributes[config.attribute_count++] = {kEarlyAttribute, 0, {1}};
  check(driver().launch_config(&config, static_cast<Function>(node.function), parameters, nullptr),
        "launching a kernel");
}

const NativeApi& require_native(const std::string& what) {
  if (const NativeApi* api = find_native()) return *api;
  std::string why;
  find_native(&why);
  base::fail("devices", what +
                            " runs on MLX's arrays through libmlx_kd_cuda_native alone, which "
                            "cannot be used (" +
                            why + "): docs/cuda.md says how it is built");
}

bool same_call(const Call& a, const Call& b) {
  return a.dims == b.dims && a.scalars == b.scalars && a.stages == b.stages &&
         a.scratch == b.scratch;
}

void StagedProgram::launch(const std::vector<const void*>& inputs,
                           const std::vector<void*>& outputs, const Call& call) const {
  use_gpu();
  make_ready(call);
  const std::lock_guard lock(mutex_);
  launched_.reserve(call.scratch);
  run(inputs, outputs, call, launched_, stream_);
  check(driver().stream_wait(stream_), ("running the kernel of '" + op_name_ + "'").c_str());
}

void StagedProgram::prepare(const Call& call) const {
  use_gpu();
  make_ready(call);
  const std::lock_guard lock(mutex_);
  queued_.reserve(call.scratch);
}

void StagedProgram::queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                          const Call& call, Stream stream) const {
  run(inputs, outputs, call, queued_, stream);
}

std::vector<mx::array> StagedProgram::call(const std::vector<mx::array>& inputs,
                                           const std::vector<spec::Shape>& output_shapes,
                                           const Call& call) const {
  return add_to_graph(inputs, mlx_shapes(output_shapes), call,
                      {mx::default_stream(mx::Device::gpu)});
}

std::vector<mx::array> StagedProgram::in_graph(const NativeApi& api, const GraphCall& graph,
                                               const std::vector<mx::array>& inputs,
                                               const std::vector<mx::Shape>& output_shapes,
                                               const Call& call) const {
  auto primitive = primitives_.find_if([&](const InGraph& known) {
    return known.graph.stream == graph.stream && known.graph.form == graph.form &&
           known.graph.vjp == graph.vjp && known.output_shapes == output_shapes &&
           same_call(known.call, call);
  });
  if (!primitive) {
    std::call_once(kept_, [this] { keep_loaded(code_); });
    primitive =
        std::make_shared<NativePrimitive>(api, graph, work_for(call), inputs, output_shapes);
    primitives_.keep({call, graph, output_shapes}, primitive);
  }
  std::vector<mx::array> arrays = inputs;
  for (size_t i = 0; i < arrays.size(); ++i)
    if (call.is_strided(i) && arrays[i].ndim() != call.strided_axes(i))
      arrays[i] = mx::contiguous(arrays[i], false, graph.stream);  // has no stride an axis
  return arrays_of(std::move(primitive), arrays, output_shapes, output_types(call));
}

}  // namespace mlx_kd::devices::cuda
