// One of our kernels as an operation in MLX's CUDA graphs: all its stages are nodes of one
// primitive.
#pragma once

#include <atomic>
#include <memory>

#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/host/host_primitive.h"

namespace mlx_kd::devices::cuda {

// The arrays of one evaluation, on the GPU; as many as the kernel has.
struct NativeMemory {
  std::array<const void*, cpu::kMostArrays> inputs;
  std::array<void*, cpu::kMostArrays> outputs;
  std::array<void*, spec::kMostScratch> scratch;
  // The same as arrays, for their strides.
  std::array<const mlx::core::array*, cpu::kMostArrays> in, out;
};

// What all calls of a kernel have in common.
struct NativeKernel {
  // How an input reaches the kernel.
  enum class Layout {
    row_major,  // anything else is copied first; starts at a multiple of 16 bytes
    last_axis,  // any strides but on the last axis, which is contiguous; starts as above
    as_it_lies,
  };
  std::string op_name;
  std::vector<Layout> layouts;        // per input
  std::vector<int> updates;           // per output: the input whose memory it takes over, or -1
  std::vector<size_t> scratch_bytes;  // at most spec::kMostScratch
  // Per input: the axes of its port. An array with others is row-major, whatever its layout says.
  std::vector<size_t> axes;
  // Its kernels are launched on the stream themselves, after MLX's graph in the making: what many
  // kernels in a row cost the host is less than half, and those that can start early do.
  bool is_direct = false;
};
NativeKernel native_kernel(const std::string& op_name, const Call& call);

// Without clusters and dynamic shared memory.
NativeNode native_node(Function function, const LaunchSize& size);

// What a primitive launches. Immutable, and cheap to make for each call.
class NativeWork {
 public:
  using Add = std::function<void(const NativeNode& node, void** parameters)>;

  virtual ~NativeWork() = default;
  // Lives as long as the work.
  virtual const NativeKernel& kernel() const = 0;
  virtual void launch(const NativeMemory& memory, const Add& add) const = 0;
  // Whether it launches the same with the same numbers.
  virtual bool same(const NativeWork& other) const = 0;
  // For the form that transformations go through.
  virtual std::span<const double> params() const = 0;
};

// Whether calls wait for memory that they could take over. After a wait in vain, because a program
// holds the array, the next ones copy at once.
class Patience {
 public:
  bool allows() { return left_.load() <= 0 || left_.fetch_sub(1) <= 0; }
  void was_in_vain() { left_ = kCalls; }

 private:
  static constexpr int kCalls = 15;
  std::atomic<int> left_{0};
};

// Arrays that a primitive reads without their being inputs in MLX's graph, which costs the host
// time for each: weights, which are there already. `order`: per input of the work, the input of the
// graph, or -1 - the place in `arrays`. They live until MLX's graph is done.
struct HeldArrays {
  std::vector<mlx::core::array> arrays;
  std::shared_ptr<const std::vector<int>> order;
};

// On the GPU stream of `graph`. An output that updates an input takes over its memory where nothing
// else holds it, and starts as a copy otherwise. Kernels of one primitive run one after the other;
// with other operations they keep the order that MLX's graph gives.
class NativePrimitive final : public cpu::HostPrimitive {
 public:
  NativePrimitive(const NativeApi& api, const GraphCall& graph,
                  std::shared_ptr<const NativeWork> work,
                  const std::vector<mlx::core::array>& inputs,
                  const std::vector<mlx::core::Shape>& output_shapes)
      : HostPrimitive(graph, inputs, output_shapes),
        api_(api),
        work_(std::move(work)),
        patience_(std::make_shared<Patience>()) {}
  // The same work on `inputs` and the arrays held.
  NativePrimitive(NativePrimitive& like, const std::vector<mlx::core::array>& inputs,
                  const std::vector<mlx::core::Shape>& output_shapes, HeldArrays held)
      : HostPrimitive(GraphCall{like.stream()}, inputs, output_shapes),
        api_(like.api_),
        work_(like.work_),
        patience_(like.patience_),
        held_(std::make_shared<const HeldArrays>(std::move(held))) {}

  void eval_cpu(const std::vector<mlx::core::array>& inputs,
                std::vector<mlx::core::array>& outputs) override;
  void eval_gpu(const std::vector<mlx::core::array>& inputs,
                std::vector<mlx::core::array>& outputs) override;
  bool is_equivalent(const Primitive& other) const override;
  const char* name() const override { return work_->kernel().op_name.c_str(); }
  const NativeApi& api() const { return api_; }
  const std::shared_ptr<const NativeWork>& work() const { return work_; }
  bool holds_arrays() const { return held_ != nullptr; }

 private:
  void run(const cpu::Pointers&, const Strides*) const override {}
  std::span<const double> params() const override { return work_->params(); }

  const NativeApi& api_;
  std::shared_ptr<const NativeWork> work_;
  std::shared_ptr<Patience> patience_;
  std::shared_ptr<const HeldArrays> held_;
};

// The outputs of a primitive, which may be that of several calls.
std::vector<mlx::core::array> arrays_of(std::shared_ptr<NativePrimitive> primitive,
                                        const std::vector<mlx::core::array>& inputs,
                                        const std::vector<mlx::core::Shape>& output_shapes,
                                        const std::vector<mlx::core::Dtype>& output_types);

// The arrays of a call, by `work`.
std::vector<mlx::core::array> native_call(const NativeApi& api, const GraphCall& graph,
                                          std::shared_ptr<const NativeWork> work,
                                          const std::vector<mlx::core::array>& inputs,
                                          const std::vector<mlx::core::Shape>& output_shapes,
                                          const std::vector<mlx::core::Dtype>& output_types);

}  // namespace mlx_kd::devices::cuda
