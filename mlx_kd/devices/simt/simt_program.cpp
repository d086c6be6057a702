#include "mlx_kd/devices/simt/simt_program.h"

#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/host_primitive.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/simt/aligned_inputs.h"

namespace mlx_kd::devices::simt {
namespace {

namespace mx = mlx::core;

class SimtPrimitive final : public cpu::HostPrimitive {
 public:
  SimtPrimitive(const Graft& graft, std::shared_ptr<const SimtCode> code, Call call,
                const std::vector<mx::array>& inputs, const std::vector<mx::Shape>& output_shapes)
      : HostPrimitive(graft, inputs, output_shapes),
        code_(std::move(code)),
        call_(std::move(call)) {
    for (const mx::array& one : inputs) input_bytes_.push_back(one.size() * one.itemsize());
  }

  const char* name() const override { return code_->op_name().c_str(); }

 private:
  void run(const cpu::Pointers& pointers) const override {
    code_->run(pointers.data(), pointers.data() + input_count(), input_bytes_, call_);
  }
  std::span<const double> params() const override { return call_.params; }

  std::shared_ptr<const SimtCode> code_;
  Call call_;
  std::vector<size_t> input_bytes_;
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
      dtype_(candidate.dtype),
      is_body_(is_body(candidate)) {
  for (const base::Json& port : candidate.inputs_spec)
    input_bytes_.push_back(static_cast<size_t>(
        spec::element_count(port.at("shape").get<spec::Shape>()) * spec::size_of(dtype_)));
}

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
      simt::launch(entry_, buffers, {}, size3(call.launch.grid, "grid"),
                   size3(call.launch.group, "threadgroup"), LaunchOptions());
  if (!report.fault.empty())
    base::fail("simt", place_ + ": the kernel of '" + op_name_ + "' ended early: " + report.fault);
}

void SimtProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call) const {
  code_->run(inputs.data(), outputs.data(), code_->input_bytes(), call);
}

std::vector<mx::array> SimtProgram::call(const std::vector<mx::array>& inputs,
                                         const std::vector<spec::Shape>& output_shapes,
                                         spec::Dtype output_dtype, const Call& call) const {
  return graft(inputs, mlx_shapes(output_shapes), output_dtype, call,
               {mx::default_stream(mx::Device::cpu), nullptr});
}

std::vector<mx::array> SimtProgram::graft(const std::vector<mx::array>& inputs,
                                          const std::vector<mx::Shape>& output_shapes,
                                          spec::Dtype output_dtype, const Call& call,
                                          const Graft& graft) const {
  check(*code_, inputs, output_shapes.size(), output_dtype);
  auto primitive = std::make_shared<SimtPrimitive>(graft, code_, call, inputs, output_shapes);
  return mx::array::make_arrays(
      output_shapes, std::vector<mx::Dtype>(output_shapes.size(), mlx_dtype(output_dtype)),
      primitive, inputs);
}

}  // namespace mlx_kd::devices::simt
