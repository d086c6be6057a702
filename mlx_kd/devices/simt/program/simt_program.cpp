#include "mlx_kd/devices/simt/program/simt_program.h"

#include <algorithm>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/host_primitive.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/simt/program/aligned_inputs.h"

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
    for (const mx::array& input : inputs) input_bytes_.push_back(input.size() * input.itemsize());
    for (const mx::Shape& shape : output_shapes) {
      size_t count = 1;
      for (const auto extent : shape) count *= static_cast<size_t>(extent);
      output_bytes_.push_back(
          count * static_cast<size_t>(spec::size_of(call_.outputs[output_bytes_.size()].type)));
    }
  }

  const char* name() const override { return code_->op_name().c_str(); }

 private:
  void run(const cpu::Pointers& pointers, const Strides* strides) const override {
    CallMemory memory = make_memory(call_);
    for (size_t i = 0; i < input_bytes_.size(); ++i) {
      memory.inputs.push_back({pointers[i], input_bytes_[i]});
      if (!strides || call_.strided_axes(i) == 0) continue;
      auto& own = memory.strides[i];
      std::copy(strides[i].end() - static_cast<std::ptrdiff_t>(own.size()), strides[i].end(),
                own.begin());
    }
    for (size_t i = 0; i < output_bytes_.size(); ++i)
      memory.outputs.push_back({pointers[input_count() + i], output_bytes_[i]});
    code_->run(std::move(memory), call_);
  }
  bool has_work() const override {
    return std::any_of(call_.stages.begin(), call_.stages.end(), spec::has_threads);
  }
  int updated_input(size_t output) const override { return call_.updated_input(output); }
  size_t strided_axes(size_t input) const override { return call_.strided_axes(input); }
  Strides port_strides(size_t input) const override { return strides_of(call_.inputs[input]); }
  std::span<const double> params() const override { return call_.scalars; }

  std::shared_ptr<const SimtCode> code_;
  Call call_;
  std::vector<size_t> input_bytes_, output_bytes_;
};

spec::Candidate without_source(spec::Candidate candidate) {
  candidate.source.clear();
  return candidate;
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

SimtCode::SimtCode(std::shared_ptr<Module> module, const TranslatedText& text,
                   const spec::Candidate& candidate)
    : module_(std::move(module)),
      candidate_(without_source(candidate)),
      kernels_(stage_kernels(text, candidate)),
      is_body_(is_body(candidate)) {
  for (const StageKernel& one : kernels_) {
    entries_.push_back(module_->entry(one.kernel));
    places_.push_back(text.unit.sources->describe(one.kernel.at));
  }
}

void SimtCode::run(CallMemory memory, const Call& call) const {
  AlignedInputs aligned;
  for (HostMemory& input : memory.inputs)
    if (is_body_) input.at = aligned.add(input.at, 0, input.bytes);
  const auto kernels = kernels_of(kernels_, call, candidate_);
  for (size_t i = 0; i < kernels.size(); ++i)
    if (has_threads(call.stages[i])) run_stage(*kernels[i], call, call.stages[i], memory);
}

void SimtCode::run_stage(const StageKernel& kernel, const Call& call, const spec::Stage& stage,
                         CallMemory& memory) const {
  const auto which = static_cast<size_t>(&kernel - kernels_.data());
  const StageBuffers buffers(kernel, call, stage, memory);
  const LaunchReport report = simt::launch(
      entries_[which], by_index(kernel, buffers.of_arguments()), {},
      size3(stage.launch.grid, "grid"), size3(stage.launch.group, "threadgroup"), LaunchOptions());
  if (!report.fault.empty())
    base::fail("simt",
               places_[which] + ": the kernel of '" + op_name() + "' ended early: " + report.fault);
}

void SimtProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call) const {
  CallMemory memory = make_memory(call);
  for (size_t i = 0; i < inputs.size(); ++i)
    memory.inputs.push_back(
        {const_cast<void*>(inputs[i]), static_cast<size_t>(call.inputs[i].bytes())});
  for (size_t i = 0; i < outputs.size(); ++i)
    memory.outputs.push_back({outputs[i], static_cast<size_t>(call.outputs[i].bytes())});
  code_->run(std::move(memory), call);
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
