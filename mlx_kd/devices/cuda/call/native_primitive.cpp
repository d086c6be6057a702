#include "mlx_kd/devices/cuda/call/native_primitive.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

#include "mlx/ops.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/call/leases.h"
#include "mlx_kd/devices/cuda/call/staged_program.h"
#include "mlx_kd/devices/cuda/compile/cubin.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using Layout = NativeKernel::Layout;

constexpr size_t kAlignment = 16;
constexpr size_t kLargeBytes = size_t{1} << 20;
constexpr unsigned kCopyThreads = 256, kMostCopyBlocks = 4096;

constexpr const char* kCopyText = R"(extern "C" __global__ void kd_copy_bytes(
    unsigned char* to, const unsigned char* from, unsigned long long bytes) {
  const unsigned long long first = blockIdx.x * 256ull + threadIdx.x, step = gridDim.x * 256ull;
  unsigned long long done = 0;
  if (((unsigned long long)to | (unsigned long long)from) % 16 == 0) {
    done = bytes / 16 * 16;
    for (unsigned long long i = first; i < bytes / 16; i += step)
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  }
  for (unsigned long long i = done + first; i < bytes; i += step) to[i] = from[i];
}
)";

Function copy_function() {
  static const Code* code = [] {
    const Cubin made = compile_cuda("kd_copy_bytes.cu", kCopyText, nvrtc_options(gpu().sm), {});
    if (made.bytes.empty()) base::fail("devices", "the copy of arrays: " + made.error);
    use_gpu();
    return new Code(made.bytes);
  }();
  static const Function function = code->function("kd_copy_bytes");
  return function;
}

bool has_contiguous_last_axis(const mx::array& array) {
  for (const int64_t stride : array.strides())
    if (stride < 0) return false;
  return array.ndim() == 0 || array.shape().back() <= 1 || array.strides().back() == 1;
}

bool fits(const mx::array& array, const NativeKernel& kernel, size_t input) {
  const Layout layout = kernel.layouts[input];
  if (layout == Layout::as_it_lies || array.size() == 0) return true;
  if (layout == Layout::last_axis && array.ndim() == kernel.axes[input])
    return has_contiguous_last_axis(array);
  return array.flags().row_contiguous;
}

// Whether the array can be given up. Until a graph is done, MLX holds what its operations read and
// all outputs but the first of each; of a large array a copy costs more than to wait for that.
// (What the graph in the making holds is let go after the first wait has returned, so there may be
// a second.)
bool is_given_up(const NativeApi& api, const mx::array& input, const mx::Stream& stream,
                 Patience& patience) {
  if (is_held_by_graphs_alone(api, input)) return true;
  if (input.nbytes() < kLargeBytes || input.data_shared_ptr().use_count() == 1) return false;
  if (!patience.allows()) return false;
  for (int waits = 0; waits < 2 && !input.is_donatable(); ++waits) mx::synchronize(stream);
  if (!input.is_donatable()) patience.was_in_vain();
  return input.is_donatable();
}

// Whether `output` may take the memory of `input` over: nothing else refers to it.
bool can_take_over(const NativeApi& api, const mx::array& input, const mx::array& output,
                   const mx::Stream& stream, Patience& patience) {
  return input.flags().row_contiguous && input.nbytes() == output.nbytes() &&
         input.data_size() == input.size() && is_given_up(api, input, stream, patience);
}

// Memory of MLX's own for an array of a primitive, on the stream of that: counted, kept for later
// and taken over like any other. MLX exports no function for it (allocator::malloc gives managed
// memory), but its operations on one array get the memory of their output so, and return if their
// input is empty.
void give_memory(mx::array& output) {
  static const auto* const empty = [] {
    mx::array none({0}, mx::float32, nullptr, {});
    // Of one that is contiguous the output would have the size.
    none.set_data(mx::allocator::Data(mx::allocator::Buffer(nullptr), [](mx::allocator::Buffer) {}),
                  0, {1}, {false, false, false});
    return new std::vector<mx::array>{none};
  }();
  static const auto* const negative =
      new mx::array(mx::negative(empty->front(), mx::Device(mx::Device::gpu)));
  static_cast<mx::UnaryPrimitive&>(negative->primitive()).eval_gpu(*empty, output);
  if (!output.data_shared_ptr()) output.set_data(mx::allocator::malloc(output.nbytes()));
}

// Scratch memory of groups. Their kernels run in the order of their stream, and write nothing
// before those of the group before are done: one memory serves all groups of a stream. What was
// outgrown stays, for a kernel may still use it.
void* shared_scratch(const mx::Stream& stream, size_t bytes) {
  struct Grown {
    size_t bytes = 0;
    std::vector<Memory> kept;
  };
  static std::mutex mutex;
  static auto* const all = new std::map<int, Grown>;  // graphs may outlive static objects
  const std::lock_guard lock(mutex);
  Grown& own = (*all)[stream.index];
  if (own.bytes < bytes) {
    use_gpu();
    own.kept.emplace_back(static_cast<int64_t>(bytes));
    own.bytes = bytes;
  }
  return reinterpret_cast<void*>(own.kept.back().at());
}

// The inputs of an evaluation's work.
struct WorkInputs {
  WorkInputs(const std::vector<mx::array>& of_graph, std::shared_ptr<const HeldArrays> more)
      : graph(of_graph), held(std::move(more)) {
    if (!held) {
      for (const mx::array& input : graph) all[count++] = &input;
      return;
    }
    for (const int at : *held->order)
      all[count++] =
          at < 0 ? &held->arrays[static_cast<size_t>(-1 - at)] : &graph[static_cast<size_t>(at)];
  }
  const mx::array& operator[](size_t i) const { return *all[i]; }
  size_t size() const { return count; }

  const std::vector<mx::array>& graph;
  std::shared_ptr<const HeldArrays> held;
  std::array<const mx::array*, cpu::kMostArrays> all;
  size_t count = 0;
};

// One evaluation: memory first, then the nodes in order.
class Evaluation {
 public:
  Evaluation(const NativeApi& api, const NativeWork& work, const mx::Stream& stream,
             Patience& patience, const WorkInputs& inputs, std::vector<mx::array>& outputs)
      : api_(api),
        work_(work),
        kernel_(work.kernel()),
        stream_(stream),
        patience_(patience),
        outputs_(outputs),
        encoder_(api.encoder(stream)) {
    lay_out(inputs);
    if (kernel_.is_direct) own_stream_ = api.stream(encoder_);  // before MLX is given a mark
    if (inputs.held) mark(inputs.held);
    for (size_t i = 0; i < outputs.size(); ++i) place_output(i, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) place_input(i);
    for (size_t i = 0; i < kernel_.scratch_bytes.size(); ++i)
      memory_.scratch[i] = kernel_.is_direct ? shared_scratch(stream, kernel_.scratch_bytes[i])
                                             : scratch(kernel_.scratch_bytes[i]);
  }

  void run() {
    for (const Copy& copy : pending_) add_copy(copy);
    work_.launch(memory_,
                 [this](const NativeNode& node, void** parameters) { add(node, parameters); });
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  void place_output(size_t i, const WorkInputs& inputs) {
    mx::array& output = outputs_[i];
    const int updated = i < kernel_.updates.size() ? kernel_.updates[i] : -1;
    if (updated >= 0 &&
        can_take_over(api_, inputs[static_cast<size_t>(updated)], output, stream_, patience_))
      lease(inputs[static_cast<size_t>(updated)], output, mark(),
            &output.inputs() != &inputs.graph);
    else
      give_memory(output);
    memory_.outputs[i] = api_.address(output);
    memory_.out[i] = &output;
  }

  // Held by MLX from here on, before the outputs that it holds after the evaluation.
  const std::shared_ptr<const Mark>& mark(std::shared_ptr<const void> held = nullptr) {
    if (!mark_) {
      mark_ = std::make_shared<const Mark>(Mark{std::move(held)});
      api_.keep(encoder_, Mark::held_by(mark_));
    }
    return mark_;
  }

  // The output that updates the input, or nullptr.
  void* updated_memory(size_t input) const {
    for (size_t i = 0; i < kernel_.updates.size(); ++i)
      if (kernel_.updates[i] == static_cast<int>(input)) return memory_.outputs[i];
    return nullptr;
  }

  // Inputs as the kernel takes them: MLX copies what does not fit.
  void lay_out(const WorkInputs& inputs) {
    copies_.reserve(inputs.size());  // their addresses are kept
    for (size_t i = 0; i < inputs.size(); ++i)
      memory_.in[i] =
          fits(inputs[i], kernel_, i) ? &inputs[i] : &copies_.emplace_back(contiguous(inputs[i]));
  }

  void place_input(size_t i) {
    const Layout layout = kernel_.layouts[i];
    const mx::array* const input = memory_.in[i];
    used_[used_count_++] = input;
    const void* address = api_.address(*input);
    void* const updated = updated_memory(i);
    const bool misaligned = layout != Layout::as_it_lies && input->nbytes() >= kAlignment &&
                            reinterpret_cast<uintptr_t>(address) % kAlignment != 0;
    if (updated && updated != address) pending_.push_back({updated, address, input->nbytes()});
    if (!updated && misaligned) address = aligned_copy(*input, address);
    memory_.inputs[i] = updated ? updated : address;
  }

  // Made by MLX, on the same stream.
  mx::array contiguous(const mx::array& input) {
    mx::array copy = mx::contiguous(input, false, stream_);
    std::vector<mx::array> made = {copy};
    copy.primitive().eval_gpu({input}, made);
    copy.detach();
    api_.keep(encoder_, copy);
    return copy;
  }

  // Uninitialised, and kept until the graph is done.
  void* scratch(size_t bytes) {
    const auto words =
        static_cast<mx::ShapeElem>((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
    mx::array memory({words}, mx::uint64, outputs_.front().primitive_ptr(), {});
    give_memory(memory);
    memory.detach();
    api_.keep(encoder_, memory);
    return api_.address(memory);
  }

  // An array with gaps keeps its strides: all that its memory spans is copied.
  const void* aligned_copy(const mx::array& input, const void* from) {
    size_t last = 0;
    for (size_t d = 0; d < input.ndim(); ++d)
      last += static_cast<size_t>(input.shape()[d] - 1) * static_cast<size_t>(input.strides()[d]);
    const size_t bytes = (last + 1) * input.itemsize();
    void* const to = scratch(bytes);
    pending_.push_back({to, from, bytes});
    return to;
  }

  void add_copy(const Copy& copy) {
    if (copy.bytes == 0) return;
    const size_t blocks = (copy.bytes / kAlignment + kCopyThreads - 1) / kCopyThreads;
    NativeNode node = {copy_function(), {1, 1, 1}, {kCopyThreads, 1, 1}, {1, 1, 1}, 0};
    node.blocks[0] = static_cast<unsigned>(std::clamp<size_t>(blocks, 1, kMostCopyBlocks));
    unsigned long long bytes = copy.bytes;
    void* to = copy.to;
    const void* from = copy.from;
    void* parameters[] = {&to, &from, &bytes};
    add(node, parameters);
  }

  // Later nodes follow the first through the outputs, which all of them may write.
  void add(const NativeNode& node, void** parameters) {
    if (kernel_.is_direct) {
      launch_node(node, parameters, static_cast<Stream>(own_stream_), true);
      return;
    }
    api_.add(encoder_, node, parameters, {used_.data(), used_count_}, outputs_);
    used_count_ = 0;
  }

  const NativeApi& api_;
  const NativeWork& work_;
  const NativeKernel& kernel_;
  const mx::Stream stream_;
  Patience& patience_;
  std::vector<mx::array>& outputs_;
  void* const encoder_;
  void* own_stream_ = nullptr;
  std::shared_ptr<const Mark> mark_;
  NativeMemory memory_;
  std::array<const mx::array*, cpu::kMostArrays> used_;
  size_t used_count_ = 0;
  std::vector<mx::array> copies_;
  std::vector<Copy> pending_;
};

}  // namespace

NativeKernel native_kernel(const std::string& op_name, const Call& call) {
  NativeKernel kernel;
  kernel.op_name = op_name;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    kernel.layouts.push_back(call.is_strided(i) ? Layout::last_axis : Layout::row_major);
    kernel.axes.push_back(call.inputs[i].shape.size());
  }
  for (size_t i = 0; i < call.outputs.size(); ++i) kernel.updates.push_back(call.updated_input(i));
  kernel.scratch_bytes.assign(call.scratch.begin(), call.scratch.end());
  return kernel;
}

NativeNode native_node(Function function, const LaunchSize& size) {
  NativeNode node = {function, {}, {}, {1, 1, 1}, 0};
  std::copy(size.blocks.begin(), size.blocks.end(), node.blocks);
  std::copy(size.threads.begin(), size.threads.end(), node.threads);
  return node;
}

void NativePrimitive::eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[" + std::string(name()) +
                           "] this kernel was compiled for a GPU: give it a GPU stream.");
}

void NativePrimitive::eval_gpu(const std::vector<mx::array>& inputs,
                               std::vector<mx::array>& outputs) {
  check_sizes(inputs);
  hold_inputs_once(inputs, outputs);
  Evaluation evaluation(api_, *work_, stream(), *patience_, WorkInputs(inputs, held_), outputs);
  for (const mx::array& output : outputs)
    if (output.size() > 0) return evaluation.run();
}

// As KernelPrimitive on a CPU: mx::compile loses arrays of merged operations of several outputs.
bool NativePrimitive::is_equivalent(const Primitive& other) const {
  if (output_count() != 1 || held_) return false;
  const auto* same = dynamic_cast<const NativePrimitive*>(&other);
  return same && work_->same(*same->work_) && same_graph(*same);
}

std::vector<mx::array> arrays_of(std::shared_ptr<NativePrimitive> primitive,
                                 const std::vector<mx::array>& inputs,
                                 const std::vector<mx::Shape>& output_shapes,
                                 const std::vector<mx::Dtype>& output_types) {
  if (output_shapes.size() == 1)
    return {mx::array(output_shapes[0], output_types[0], std::move(primitive), inputs)};
  return mx::array::make_arrays(output_shapes, output_types, std::move(primitive), inputs);
}

std::vector<mx::array> native_call(const NativeApi& api, const GraphCall& graph,
                                   std::shared_ptr<const NativeWork> work,
                                   const std::vector<mx::array>& inputs,
                                   const std::vector<mx::Shape>& output_shapes,
                                   const std::vector<mx::Dtype>& output_types) {
  auto primitive =
      std::make_shared<NativePrimitive>(api, graph, std::move(work), inputs, output_shapes);
  return arrays_of(std::move(primitive), inputs, output_shapes, output_types);
}

}  // namespace mlx_kd::devices::cuda
