#include "mlx_kd/devices/simt/simt_program.h"

#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/host_primitive.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/simt/aligned_inputs.h"

namespace mlx_kd::devices::simt {
namespace {

namespace mx = mlx::core;

class SimtPrimitive final : public cpu::HostPrimitive {
 public:
  SimtPrimitive(const GraphCall& graph, std::shared_ptr<const SimtCode> code, Call call,
                const std::vector<mx::array>& inputs, const std::vector<mx::Shape>& output_shapes)
      : HostPrimitive(graph, inputs, output_shapes),
        code_(std::move(code)),
        call_(std::move(call)) {
    for (const mx::array& one : inputs) input_bytes_.push_back(one.size() * one.itemsize());
  }

  const char* name() const override { return code_->op_name().c_str(); }

 private:
  void run(const cpu::Pointers& pointers, const Strides*) const override {
    code_->run(pointers.data(), pointers.data() + input_count(), input_bytes_, call_);
  }
  std::span<const double> params() const override { return call_.scalars; }

  std::shared_ptr<const SimtCode> code_;
  Call call_;
  std::vector<size_t> input_bytes_;
};

}  // namespace

Size3 size3(const std::array<int64_t, 3>& size, const std::string& what) {
  Size3 result{};
  for (size_t d = 0; d < 3; ++d) {
    if (size[d] < 0 || size[d] > std::numeric_limits<uint32_t>::max())
      base::misuse("simt", "a " + what + " of " + std::to_string(size[d]) +
                               " threads in one dimension: give 1 to 4294967295");
    result[d] = static_cast<uint32_t>(size[d]);
  }
  return result;
}

SimtCode::SimtCode(std::shared_ptr<Module> module, const msl::Kernel& kernel,
                   const msl::SourceSet& sources, const spec::Candidate& candidate)
    : module_(std::move(module)),
      entry_(module_->entry(kernel)),
      arguments_(metal_arguments(kernel, sources, candidate)),
      op_name_(candidate.op_name),
      place_(sources.describe(kernel.at)),
      is_body_(is_body(candidate)) {}

void SimtCode::run(const void* const* inputs, void* const* outputs,
                   const std::vector<size_t>& input_bytes, const Call& call) const {
  AlignedInputs aligned;
  const auto input = [&](size_t port) {
    return is_body_ ? aligned.add(inputs[port], 0, input_bytes[port])
                    : const_cast<void*>(inputs[port]);
  };
  std::vector<Number> numbers = metal_numbers(arguments_, call);
  std::vector<void*> buffers;
  size_t number = 0;
  for (const MetalArgument& one : arguments_) {
    buffers.resize(static_cast<size_t>(one.index) + 1, nullptr);
    buffers.back() = one.holds == MetalArgument::Holds::input    ? input(one.port)
                     : one.holds == MetalArgument::Holds::output ? outputs[one.port]
                                                                 : numbers[number++].data();
  }
  const LaunchReport report =
      simt::launch(entry_, buffers, {}, size3(call.launch().grid, "grid"),
                   size3(call.launch().group, "threadgroup"), LaunchOptions());
  if (!report.fault.empty())
    base::fail("simt", place_ + ": the kernel of '" + op_name_ + "' ended early: " + report.fault);
}

void SimtProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call) const {
  std::vector<size_t> input_bytes;
  for (const spec::ArraySpec& input : call.inputs)
    input_bytes.push_back(static_cast<size_t>(input.bytes()));
  code_->run(inputs.data(), outputs.data(), input_bytes, call);
}

std::vector<mx::array> SimtProgram::call(const std::vector<mx::array>& inputs,
                                         const std::vector<spec::Shape>& output_shapes,
                                         const Call& call) const {
  return add_to_graph(inputs, mlx_shapes(output_shapes), call,
                      {mx::default_stream(mx::Device::cpu)});
}

std::vector<mx::array> SimtProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                 const std::vector<mx::Shape>& output_shapes,
                                                 const Call& call, const GraphCall& graph) const {
  check_arrays(code_->op_name(), inputs, output_shapes.size(), call);
  auto primitive = std::make_shared<SimtPrimitive>(graph, code_, call, inputs, output_shapes);
  return mx::array::make_arrays(output_shapes, output_types(call), primitive, inputs);
}

}  // namespace mlx_kd::devices::simt
