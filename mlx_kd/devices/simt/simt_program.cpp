#include "mlx_kd/devices/simt/simt_program.h"

#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cpu/host_primitive.h"
#include "mlx_kd/devices/mlx_types.h"

namespace mlx_kd::devices::simt {
namespace {

namespace mx = mlx::core;

class SimtPrimitive final : public cpu::HostPrimitive {
 public:
  SimtPrimitive(mx::Stream stream, std::shared_ptr<const SimtCode> code, Call call,
                const std::vector<mx::array>& inputs, const std::vector<mx::Shape>& output_shapes)
      : HostPrimitive(stream, inputs, output_shapes),
        code_(std::move(code)),
        call_(std::move(call)) {}

  const char* name() const override { return code_->op_name().c_str(); }

 private:
  void run(const cpu::Pointers& pointers) const override {
    code_->run(pointers.data(), pointers.data() + input_count(), call_);
  }

  std::shared_ptr<const SimtCode> code_;
  Call call_;
};

void check(const SimtCode& code, const std::vector<mx::array>& inputs, size_t outputs,
           spec::Dtype output_dtype) {
  if (inputs.size() != code.input_count() || outputs != code.output_count())
    base::fail("devices", "op '" + code.op_name() + "' takes " +
                              std::to_string(code.input_count()) + " inputs and gives " +
                              std::to_string(code.output_count()) + " outputs, not " +
                              std::to_string(inputs.size()) + " and " + std::to_string(outputs));
  bool same = output_dtype == code.dtype();
  for (const mx::array& input : inputs) same = same && input.dtype() == mlx_dtype(code.dtype());
  if (!same)
    base::fail("devices", "this kernel of '" + code.op_name() + "' was compiled for " +
                              spec::name_of(code.dtype()) + ": give it arrays of that type");
}

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
      input_count_(candidate.inputs_spec.size()),
      output_count_(candidate.outputs_spec.size()),
      dtype_(candidate.dtype) {}

void SimtCode::run(const void* const* inputs, void* const* outputs, const Call& call) const {
  std::vector<Number> numbers = metal_numbers(arguments_, call);
  std::vector<void*> buffers;
  size_t number = 0;
  for (const MetalArgument& one : arguments_) {
    buffers.resize(static_cast<size_t>(one.index) + 1, nullptr);
    buffers.back() = one.holds == MetalArgument::Holds::input ? const_cast<void*>(inputs[one.port])
                     : one.holds == MetalArgument::Holds::output ? outputs[one.port]
                                                                 : numbers[number++].data();
  }
  const LaunchReport report =
      simt::launch(entry_, buffers, {}, size3(call.launch.grid, "grid"),
                   size3(call.launch.group, "threadgroup"), LaunchOptions());
  if (!report.fault.empty())
    base::fail("simt", place_ + ": the kernel of '" + op_name_ + "' ended early: " + report.fault);
}

void SimtProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call) const {
  code_->run(inputs.data(), outputs.data(), call);
}

std::vector<mx::array> SimtProgram::call(const std::vector<mx::array>& inputs,
                                         const std::vector<spec::Shape>& output_shapes,
                                         spec::Dtype output_dtype, const Call& call) const {
  check(*code_, inputs, output_shapes.size(), output_dtype);
  const std::vector<mx::Shape> shapes = mlx_shapes(output_shapes);
  auto primitive = std::make_shared<SimtPrimitive>(mx::default_stream(mx::Device::cpu), code_, call,
                                                   inputs, shapes);
  return mx::array::make_arrays(
      shapes, std::vector<mx::Dtype>(shapes.size(), mlx_dtype(output_dtype)), primitive, inputs);
}

}  // namespace mlx_kd::devices::simt
