#include "mlx_kd/devices/cpu/kernel_primitive.h"

#include <algorithm>
#include <stdexcept>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/devices/cpu/buffer_pool.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace mx = mlx::core;

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

// MLX's memory is aligned to 8 bytes; starting at a cache line keeps wide stores whole.
void* give_memory(mx::array& output) {
  if (output.size() == 0) {
    output.set_data(mx::allocator::malloc(0));
    return nullptr;
  }
  mx::allocator::Data memory = output_memory(output.nbytes() + kAlignment);
  const auto begin = reinterpret_cast<uintptr_t>(memory.buffer().raw_ptr());
  const auto offset = static_cast<int64_t>((kAlignment - begin % kAlignment) % kAlignment);
  const auto longest = std::max_element(output.shape().begin(), output.shape().end());
  const bool one_column = output.size() == 1 || output.size() == static_cast<size_t>(*longest);
  output.set_data(std::move(memory), output.size(), output.strides(), {true, true, one_column},
                  offset);
  return output.data<void>();
}

// The input's memory, or that of a row-contiguous copy that MLX makes earlier on the same stream.
void* contiguous_memory(const mx::array& input, const mx::Stream& stream,
                        mx::cpu::CommandEncoder& encoder) {
  if (input.flags().row_contiguous) return const_cast<void*>(input.data<void>());
  mx::array copy = mx::contiguous(input, false, stream);
  std::vector<mx::array> outputs = {copy};
  copy.primitive().eval_cpu({input}, outputs);
  copy.detach();
  encoder.add_temporary(copy);
  return copy.data<void>();
}

}  // namespace

KernelPrimitive::KernelPrimitive(const Graft& graft, std::shared_ptr<const KernelCode> code,
                                 const FlatCall& call, const std::vector<mx::array>& inputs,
                                 const std::vector<mx::Shape>& output_shapes)
    : Primitive(graft.stream),
      code_(std::move(code)),
      call_(call),
      form_(graft.form),
      output_shapes_(output_shapes) {
  for (size_t i = 0; i < inputs.size(); ++i) input_sizes_[i] = inputs[i].size();
}

void KernelPrimitive::check_sizes(const std::vector<mx::array>& inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].size() != input_sizes_[i])
      throw std::invalid_argument(
          "[" + code_->op_name() + "] input " + std::to_string(i) + " has " +
          std::to_string(inputs[i].size()) + " elements where the kernel was made for " +
          std::to_string(input_sizes_[i]) + ": kernels do not support shapeless compile.");
}

void KernelPrimitive::eval_cpu(const std::vector<mx::array>& inputs,
                               std::vector<mx::array>& outputs) {
  check_sizes(inputs);
  auto& encoder = mx::cpu::get_command_encoder(stream());
  Pointers pointers{};
  size_t at = 0;
  bool any = false;
  for (const mx::array& input : inputs) {
    pointers[at++] = contiguous_memory(input, stream(), encoder);
    encoder.set_input_array(input);
  }
  for (mx::array& output : outputs) {
    pointers[at++] = give_memory(output);
    encoder.set_output_array(output);
    any = any || output.size() > 0;
  }
  if (!any || call_.units <= 0) return;
  encoder.dispatch([self = shared_from_this(), pointers] {
    void* const* outputs_at = pointers.data() + self->code_->input_count();
    self->code_->run(pointers.data(), outputs_at, self->call_);
  });
}

void KernelPrimitive::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[" + code_->op_name() +
                           "] this kernel was compiled for the CPU: give it a CPU stream.");
}

std::function<std::vector<mx::array>(const std::vector<mx::array>&)> KernelPrimitive::form() {
  return [this](const std::vector<mx::array>& inputs) {
    return (*form_)(inputs, call_.params, stream());
  };
}

std::vector<mx::array> KernelPrimitive::vjp(const std::vector<mx::array>& primals,
                                            const std::vector<mx::array>& cotangents,
                                            const std::vector<int>& argnums,
                                            const std::vector<mx::array>& outputs) {
  if (!form_) return Primitive::vjp(primals, cotangents, argnums, outputs);
  const auto all = mx::vjp(form(), primals, cotangents).second;
  std::vector<mx::array> some;
  for (const int argnum : argnums) some.push_back(all[static_cast<size_t>(argnum)]);
  return some;
}

std::vector<mx::array> KernelPrimitive::jvp(const std::vector<mx::array>& primals,
                                            const std::vector<mx::array>& tangents,
                                            const std::vector<int>& argnums) {
  if (!form_) return Primitive::jvp(primals, tangents, argnums);
  std::vector<mx::array> some;
  for (const int argnum : argnums) some.push_back(primals[static_cast<size_t>(argnum)]);
  const auto of_some = [&](const std::vector<mx::array>& changed) {
    std::vector<mx::array> all = primals;
    for (size_t i = 0; i < changed.size(); ++i) all[static_cast<size_t>(argnums[i])] = changed[i];
    return form()(all);
  };
  return mx::jvp(of_some, some, tangents).second;
}

std::pair<std::vector<mx::array>, std::vector<int>> KernelPrimitive::vmap(
    const std::vector<mx::array>& inputs, const std::vector<int>& axes) {
  if (!form_) return Primitive::vmap(inputs, axes);
  std::vector<mx::array> outputs = mx::vmap(form(), axes, {})(inputs);
  std::vector<int> out_axes(outputs.size(), 0);
  return {std::move(outputs), std::move(out_axes)};
}

std::vector<mx::Shape> KernelPrimitive::output_shapes(const std::vector<mx::array>& inputs) {
  check_sizes(inputs);
  return output_shapes_;
}

// mx::compile loses arrays when it merges equal operations of several outputs (MLX 0.32.4, its own
// divmod too), so those are never equivalent.
bool KernelPrimitive::is_equivalent(const Primitive& other) const {
  if (output_shapes_.size() != 1) return false;
  const auto* same = dynamic_cast<const KernelPrimitive*>(&other);
  return same && same->code_ == code_ && same->call_ == call_ && same->form_ == form_ &&
         same->input_sizes_ == input_sizes_ && same->output_shapes_ == output_shapes_;
}

}  // namespace mlx_kd::devices::cpu
