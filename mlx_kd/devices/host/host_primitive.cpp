#include "mlx_kd/devices/host/host_primitive.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/stream.h"
#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/memory/buffer_pool.h"
#include "mlx_kd/devices/host/memory/queued_holds.h"
#include "mlx_kd/devices/host/memory/recycled.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace mx = mlx::core;

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector
constexpr size_t kWorthWaiting = size_t(1) << 14;

// MLX's memory is aligned to 8 bytes; starting at a cache line keeps wide stores whole.
// An array that a later call may take over lies in memory of MLX's own (`kept`): no other is given
// up.
void* give_memory(mx::array& output, bool kept = false) {
  if (output.size() == 0) {
    output.set_data(mx::allocator::malloc(0));
    return nullptr;
  }
  const size_t bytes = output.nbytes() + kAlignment;
  mx::allocator::Data memory = kept ? mx::allocator::malloc(bytes) : output_memory(bytes);
  const auto begin = reinterpret_cast<uintptr_t>(memory.buffer().raw_ptr());
  const auto offset = static_cast<int64_t>((kAlignment - begin % kAlignment) % kAlignment);
  const auto longest = std::max_element(output.shape().begin(), output.shape().end());
  const bool one_column = output.size() == 1 || output.size() == static_cast<size_t>(*longest);
  output.set_data(std::move(memory), output.size(), output.strides(), {true, true, one_column},
                  offset);
  return output.data<void>();
}

// The input's memory, or that of a row-contiguous copy that MLX makes earlier on the same stream.
void* memory_of(const mx::array& input, bool contiguous, const mx::Stream& stream,
                mx::cpu::CommandEncoder& encoder) {
  if (!contiguous || input.flags().row_contiguous) return const_cast<void*>(input.data<void>());
  mx::array copy = mx::contiguous(input, false, stream);
  std::vector<mx::array> outputs = {copy};
  copy.primitive().eval_cpu({input}, outputs);
  copy.detach();
  encoder.add_temporary(copy);
  return copy.data<void>();
}

// Whether nothing else uses the input's memory. Who holds it unseen may be a task of MLX's own: to
// wait for those that are queued costs less than to copy much.
bool can_take_over(const mx::array& input, const mx::Stream& stream) {
  if (!input.flags().row_contiguous || input.size() == 0 || holders_of(input) != 1) return false;
  if (!input.data_shared_ptr()->is_owned()) return false;
  if (is_held_by_queue_alone(input, stream)) return true;
  if (input.nbytes() < kWorthWaiting) return false;
  mx::synchronize(stream);
  return input.is_donatable();
}

// Whether a kernel of a strided port of so many axes takes the array as it lies. What has more axes
// (rows of several, say) has no stride per axis of the port; axes that are left out have one item.
bool can_stride(const mx::array& input, size_t axes) {
  return axes > 0 && axes <= kStrideAxes && input.ndim() <= axes && input.ndim() > 0 &&
         (input.shape(-1) <= 1 || input.strides().back() == 1);
}

Strides strides_of_array(const mx::array& input) {
  return strides_of({{input.shape().begin(), input.shape().end()},
                     spec::Dtype::float32,
                     {input.strides().begin(), input.strides().end()}});
}

}  // namespace

HostPrimitive::HostPrimitive(const GraphCall& graph, const std::vector<mx::array>& inputs,
                             const std::vector<mx::Shape>& output_shapes)
    : Primitive(graph.stream),
      form_(graph.form),
      vjp_(graph.vjp),
      input_count_(inputs.size()),
      output_shapes_(output_shapes) {
  if (inputs.size() + output_shapes.size() > kMostArrays)
    base::misuse("devices", std::to_string(inputs.size() + output_shapes.size()) +
                                " inputs and outputs: a kernel takes at most " +
                                std::to_string(kMostArrays));
  for (size_t i = 0; i < inputs.size(); ++i) input_sizes_[i] = inputs[i].size();
}

void HostPrimitive::hold_inputs_once(const std::vector<mx::array>& inputs,
                                     std::vector<mx::array>& outputs) {
  for (const mx::array& output : outputs)
    if (output.is_tracer()) return;  // its graph is still needed
  for (mx::array& output : outputs)
    if (&output.inputs() != &inputs) output.inputs().clear();
}

void HostPrimitive::check_sizes(const std::vector<mx::array>& inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].size() != input_sizes_[i])
      throw std::invalid_argument(
          "[" + std::string(name()) + "] input " + std::to_string(i) + " has " +
          std::to_string(inputs[i].size()) + " elements where the kernel was made for " +
          std::to_string(input_sizes_[i]) + ": kernels do not support shapeless compile.");
}

bool HostPrimitive::any_strided() const {
  for (size_t i = 0; i < input_count_; ++i)
    if (strided_axes(i) > 0) return true;
  return false;
}

// What the stream's thread needs of one evaluation, in one piece of recycled memory.
struct HostPrimitive::Task {
  explicit Task(const mx::Stream& stream) : work(stream) {}

  static std::shared_ptr<Task> make(const mx::Stream& stream) {
    return std::allocate_shared<Task>(RecycledMemory<Task>(), stream);
  }

  // Once. Notes of held memory keep the task, but not the primitive.
  void run() {
    const std::shared_ptr<HostPrimitive> running = std::move(primitive);
    const struct Ending {
      const QueuedWork& work;
      ~Ending() { work.end(); }
    } ending{work};
    running->run({pointers.data(), count}, strided ? strides.data() : nullptr);
  }

  std::shared_ptr<HostPrimitive> primitive;
  const QueuedWork work;
  size_t count = 0;
  bool strided = false;
  std::array<void*, kMostArrays> pointers;   // the first `count`
  std::array<Strides, kMostArrays> strides;  // of the inputs, if `strided`
};

// What one evaluation does with its arrays' memory.
class HostPrimitive::Placement {
 public:
  Placement(HostPrimitive& primitive, const std::vector<mx::array>& inputs,
            std::vector<mx::array>& outputs)
      : primitive_(primitive),
        stream_(primitive.stream()),
        encoder_(mx::cpu::get_command_encoder(stream_)),
        inputs_(inputs),
        outputs_(outputs),
        task_(Task::make(stream_)) {
    task_->count = inputs.size() + outputs.size();
    task_->strided = primitive.any_strided();
    for (size_t i = 0; i < inputs.size(); ++i) place_input(i);
    for (size_t i = 0; i < outputs.size(); ++i) place_output(i);
  }

  // Memory is handed over last: it does not come back to an input if queueing fails.
  void queue(std::shared_ptr<HostPrimitive> self) {
    const bool is_queued = any_ && primitive_.has_work();
    const bool is_noted = is_queued && (updates_ || reads_watched());
    if (is_queued) {
      task_->primitive = std::move(self);
      encoder_.dispatch([task = task_] { task->run(); });
    }
    for (size_t i = 0; updates_ && i < inputs_.size(); ++i)
      if (taken_[i]) hand_over(inputs_[i], outputs_[static_cast<size_t>(taken_[i]) - 1]);
    if (is_noted) note_holds(std::shared_ptr<const QueuedWork>(task_, &task_->work));
  }

 private:
  void place_input(size_t i) {
    const mx::array& input = inputs_[i];
    const bool is_view = can_stride(input, primitive_.strided_axes(i));
    task_->pointers[i] =
        memory_of(input, primitive_.wants_contiguous() && !is_view, stream_, encoder_);
    if (task_->strided)
      task_->strides[i] = is_view ? strides_of_array(input) : primitive_.port_strides(i);
    encoder_.set_input_array(input);
  }

  void place_output(size_t i) {
    mx::array& output = outputs_[i];
    const int updated = primitive_.updated_input(i);
    task_->pointers[inputs_.size() + i] =
        updated < 0 ? give_memory(output) : update(static_cast<size_t>(updated), i);
    encoder_.set_output_array(output);
    any_ = any_ || output.size() > 0;
  }

  // The memory of an output that updates an input: the input's own if nothing else holds it, else
  // the elements are copied before the kernel runs.
  void* update(size_t input, size_t output) {
    void*& from = task_->pointers[input];
    updates_ = true;
    if (can_take_over(inputs_[input], stream_)) {
      taken_[input] = static_cast<int>(output) + 1;
      return from;
    }
    void* const to = give_memory(outputs_[output], true);
    const size_t bytes = outputs_[output].nbytes();
    if (to) encoder_.dispatch([to, from, bytes] { std::memcpy(to, from, bytes); });
    return from = to;
  }

  bool reads_watched() const { return std::any_of(inputs_.begin(), inputs_.end(), is_watched); }

  // MLX's task will hold the memory of inputs, and of the outputs but that whose inputs it passes.
  void note_holds(const std::shared_ptr<const QueuedWork>& work) {
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (!taken_[i]) note_hold(inputs_[i], work);
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (primitive_.updated_input(i) < 0) continue;
      watch(outputs_[i]);  // one that was handed over is
      if (&outputs_[i].inputs() != &inputs_) note_hold(outputs_[i], work);
    }
  }

  HostPrimitive& primitive_;
  const mx::Stream stream_;
  mx::cpu::CommandEncoder& encoder_;
  const std::vector<mx::array>& inputs_;
  std::vector<mx::array>& outputs_;
  const std::shared_ptr<Task> task_;
  std::array<int, kMostArrays> taken_{};  // of an input: 1 + the output that has its memory now
  bool updates_ = false, any_ = false;
};

void HostPrimitive::eval_cpu(const std::vector<mx::array>& inputs,
                             std::vector<mx::array>& outputs) {
  check_sizes(inputs);
  hold_inputs_once(inputs, outputs);
  Placement(*this, inputs, outputs).queue(shared_from_this());
}

void HostPrimitive::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[" + std::string(name()) +
                           "] this kernel was compiled for the CPU: give it a CPU stream.");
}

HostPrimitive::Form HostPrimitive::form() {
  return
      [this](const std::vector<mx::array>& inputs) { return (*form_)(inputs, params(), stream()); };
}

namespace {

std::vector<mx::array> of_arguments(const std::vector<mx::array>& all,
                                    const std::vector<int>& argnums) {
  std::vector<mx::array> some;
  for (const int argnum : argnums) some.push_back(all[static_cast<size_t>(argnum)]);
  return some;
}

}  // namespace

HostPrimitive::Form HostPrimitive::form_of(const std::vector<mx::array>& primals,
                                           const std::vector<int>& argnums) {
  return [this, primals, argnums](const std::vector<mx::array>& changed) {
    std::vector<mx::array> all = primals;
    for (size_t i = 0; i < changed.size(); ++i) all[static_cast<size_t>(argnums[i])] = changed[i];
    return form()(all);
  };
}

// Of those that are asked for alone: MLX refuses gradients of quantised weights.
std::vector<mx::array> HostPrimitive::vjp(const std::vector<mx::array>& primals,
                                          const std::vector<mx::array>& cotangents,
                                          const std::vector<int>& argnums,
                                          const std::vector<mx::array>& outputs) {
  if (!form_ && !vjp_) return Primitive::vjp(primals, cotangents, argnums, outputs);
  if (vjp_) return of_arguments((*vjp_)(primals, outputs, cotangents, params(), stream()), argnums);
  return mx::vjp(form_of(primals, argnums), of_arguments(primals, argnums), cotangents).second;
}

std::vector<mx::array> HostPrimitive::jvp(const std::vector<mx::array>& primals,
                                          const std::vector<mx::array>& tangents,
                                          const std::vector<int>& argnums) {
  if (!form_) return Primitive::jvp(primals, tangents, argnums);
  return mx::jvp(form_of(primals, argnums), of_arguments(primals, argnums), tangents).second;
}

std::pair<std::vector<mx::array>, std::vector<int>> HostPrimitive::vmap(
    const std::vector<mx::array>& inputs, const std::vector<int>& axes) {
  if (!form_) return Primitive::vmap(inputs, axes);
  std::vector<mx::array> outputs = mx::vmap(form(), axes, {})(inputs);
  std::vector<int> out_axes(outputs.size(), 0);
  return {std::move(outputs), std::move(out_axes)};
}

std::vector<mx::Shape> HostPrimitive::output_shapes(const std::vector<mx::array>& inputs) {
  check_sizes(inputs);
  return output_shapes_;
}

bool HostPrimitive::has_sizes_of(const HostPrimitive& other) const {
  return std::equal(input_sizes_.begin(),
                    input_sizes_.begin() + static_cast<ptrdiff_t>(input_count_),
                    other.input_sizes_.begin(),
                    other.input_sizes_.begin() + static_cast<ptrdiff_t>(other.input_count_));
}

bool HostPrimitive::same_graph(const HostPrimitive& other) const {
  return form_ == other.form_ && vjp_ == other.vjp_ && has_sizes_of(other) &&
         output_shapes_ == other.output_shapes_;
}

}  // namespace mlx_kd::devices::cpu
