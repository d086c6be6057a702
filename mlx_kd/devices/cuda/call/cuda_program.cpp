#include "mlx_kd/devices/cuda/call/cuda_program.h"

#include <algorithm>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/call/precompiled.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using By = msl::CudaParameter::Kind;
using Holds = MetalArgument::Holds;
using Kind = TextParameter::Kind;

bool is_updated(const spec::Candidate& candidate, size_t input) {
  const auto& all = candidate.updates;
  return std::find(all.begin(), all.end(), static_cast<int>(input)) != all.end();
}

void check_inputs_are_const(const StageKernel& kernel, const msl::SourceSet& sources,
                            const spec::Candidate& candidate) {
  for (size_t i = 0; i < kernel.arguments.size(); ++i)
    if (const MetalArgument& one = kernel.arguments[i];
        one.holds == Holds::input && !one.is_const && !is_updated(candidate, one.port))
      msl::refuse(sources, kernel.kernel.buffers[i].at,
                  "input '" + one.name + "' is bound as one that is written: make it const");
}

void check_no_group_arguments(const msl::Kernel& kernel, const msl::SourceSet& sources) {
  if (!kernel.groups.empty())
    msl::refuse(sources, kernel.groups.front().at,
                "'" + kernel.groups.front().name +
                    "' takes its size from the host: declare threadgroup memory in the kernel");
}

// What KD_WHOLE_LINES promised the compiler.
void check_whole_lines(const spec::Launch& launch, const std::string& op_name) {
  if (launch.group[1] != 1 || launch.group[2] != 1)
    base::fail("devices", "the kernel of '" + op_name +
                              "' is launched in threadgroups of more than one dimension: on the "
                              "device cuda give all threads of a group in x");
  if (launch.group[0] > 0 && launch.grid[0] % launch.group[0] != 0)
    base::fail("devices", "the kernel of '" + op_name + "' is launched with " +
                              std::to_string(launch.grid[0]) + " threads in threadgroups of " +
                              std::to_string(launch.group[0]) +
                              ": on the device cuda round them up to whole threadgroups and let "
                              "the kernel leave out what is too many");
}

Kind kind_of(Holds holds) {
  switch (holds) {
    case Holds::input:
      return Kind::input;
    case Holds::output:
      return Kind::output;
    case Holds::scratch:
      return Kind::scratch;
    default:
      return Kind::strides;
  }
}

AxisStrides axis_strides_of(const spec::ArraySpec& array) {
  AxisStrides result = {};
  const std::vector<int64_t> strides = axis_strides(array);
  std::copy_n(strides.begin(), std::min(strides.size(), result.size()), result.begin());
  return result;
}

std::vector<AxisStrides> strides_of_inputs(const Call& call) {
  std::vector<AxisStrides> result;
  for (const spec::ArraySpec& input : call.inputs) result.push_back(axis_strides_of(input));
  return result;
}

bool takes_strides(const std::vector<TextStage>& stages) {
  return std::any_of(stages.begin(), stages.end(), [](const TextStage& stage) {
    return std::any_of(stage.parameters.begin(), stage.parameters.end(),
                       [](const TextParameter& one) { return one.kind == Kind::strides; });
  });
}

uint32_t number_half(const Number& number, bool upper) {
  uint32_t half;
  std::memcpy(&half, number.data() + (upper ? sizeof half : 0), sizeof half);
  return half;
}

// What MLX's precompiled kernels do not do.
bool needs_native(const Call& call) {
  if (call.stages.size() != 1 || !has_threads(call.stages.front()) || !call.scratch.empty())
    return true;
  for (size_t i = 0; i < call.outputs.size(); ++i)
    if (call.updated_input(i) >= 0) return true;
  for (size_t i = 0; i < call.inputs.size(); ++i)
    if (call.is_strided(i)) return true;
  return false;
}

spec::Candidate without_text(spec::Candidate candidate) {
  candidate.source.clear();
  return candidate;
}

}  // namespace

CudaProgram::CudaProgram(std::string cubin, const CandidateText& text,
                         const spec::Candidate& candidate)
    : StagedProgram(candidate.op_name, std::make_shared<Code>(cubin)),
      cubin_(std::move(cubin)),
      candidate_(without_text(candidate)),
      metal_(stage_kernels(text.text, candidate)),
      whole_lines_(!is_body(candidate)) {
  const msl::SourceSet& sources = *text.text.unit.sources;
  for (const StageKernel& one : metal_) {
    check_inputs_are_const(one, sources, candidate);
    check_no_group_arguments(one.kernel, sources);
    const std::string symbol = text.cuda.symbol(one.kernel);
    kernels_.push_back({one, msl::cuda_layout(one.kernel, candidate_options(candidate)), symbol,
                        code()->function(symbol)});
    if (kernels_.back().layout.size() > kMostParameters)
      msl::refuse(sources, one.kernel.at,
                  "'" + one.kernel.name + "' has more than " + std::to_string(kMostParameters) +
                      " parameters in CUDA");
  }
}

LaunchSize CudaProgram::launch_size_of(const spec::Launch& launch) const {
  if (whole_lines_) check_whole_lines(launch, op_name());
  return launch_size(launch.grid, launch.group);
}

TextStage CudaProgram::stage_of(const TextKernel& kernel, const Call& call,
                                const spec::Stage& stage) const {
  const std::vector<MetalArgument>& arguments = kernel.metal.arguments;
  const std::vector<Number> numbers = metal_numbers(arguments, call, stage);
  std::vector<size_t> number_of(arguments.size(), 0);
  for (size_t i = 0, next = 0; i < arguments.size(); ++i)
    if (arguments[i].holds == Holds::number) number_of[i] = next++;
  TextStage result{native_node(kernel.function, launch_size_of(stage.launch))};
  for (const msl::CudaParameter& one : kernel.layout) {
    if (one.kind == By::grid)
      result.parameters.push_back(
          number_parameter(static_cast<uint32_t>(stage.launch.grid[one.binding])));
    else if (one.kind == By::pointer || one.kind == By::list)
      result.parameters.push_back(
          {kind_of(arguments[one.binding].holds), arguments[one.binding].port});
    else
      result.parameters.push_back(
          number_parameter(number_half(numbers[number_of[one.binding]], one.kind == By::high)));
  }
  return result;
}

std::shared_ptr<const TextWork> CudaProgram::work_of(const Call& call) const {
  if (auto known = works_.find_if([&](const Call& other) { return same_call(call, other); }))
    return known;
  const auto kernels = kernels_of(metal_, call, candidate_);
  std::vector<TextStage> stages;
  for (size_t i = 0; i < kernels.size(); ++i)
    if (has_threads(call.stages[i]))
      stages.push_back(stage_of(kernels_[static_cast<size_t>(kernels[i] - metal_.data())], call,
                                call.stages[i]));
  std::vector<AxisStrides> strides;
  if (takes_strides(stages)) strides = strides_of_inputs(call);
  auto work = std::make_shared<const TextWork>(native_kernel(op_name(), call), std::move(stages),
                                               call.scalars, std::move(strides));
  works_.keep(call, work);
  return work;
}

void CudaProgram::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                      const Call& call, const CallScratch& scratch, Stream stream) const {
  const auto work = work_of(call);
  // Those of this call: calls of one size may differ in them.
  std::vector<AxisStrides> strides;
  if (!work->strides().empty()) strides = strides_of_inputs(call);
  const TextMemory memory = {inputs.data(), outputs.data(), scratch.memory().data(),
                             strides.data()};
  for (const TextStage& stage : work->stages())
    launch_node(stage.node, ParameterList(stage, memory).data(), stream);
}

void CudaProgram::check_call(const std::vector<mx::array>& inputs, size_t outputs,
                             const Call& call) const {
  static const bool mlx_has_cuda = mx::is_available(mx::Device::gpu);
  if (!mlx_has_cuda)
    base::fail("devices", "this MLX has no CUDA: pip install 'mlx[cuda13]' to run kernels of '" +
                              op_name() + "' on its arrays");
  check_arrays(op_name(), inputs, outputs, call);
}

bool CudaProgram::Size::operator==(const Size& other) const {
  return stream == other.stream && same_call(call, other.call);
}

std::vector<mx::array> CudaProgram::precompiled(const std::vector<mx::array>& inputs,
                                                const std::vector<mx::Shape>& output_shapes,
                                                const Size& size) const {
  const Call& call = size.call;
  const auto of_stage = kernels_of(metal_, call, candidate_);
  const auto which = static_cast<size_t>(of_stage.front() - metal_.data());
  const TextStage stage = stage_of(kernels_[which], call, call.stages.front());
  const PrecompiledCall made(kernels_[which].layout, stage, inputs, output_shapes,
                             output_types(call));
  if (const auto primitive = prepared_.find(size)) return made.by(primitive);
  const auto [results, primitive] = made.by_new(kernels_[which].symbol, cubin_, size.stream);
  prepared_.keep(size, primitive);
  return results;
}

std::vector<mx::array> CudaProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                 const std::vector<mx::Shape>& output_shapes,
                                                 const Call& call, const GraphCall& graph) const {
  check_call(inputs, output_shapes.size(), call);
  const NativeApi* api = find_native();
  if (!api && !needs_native(call)) {
    if (graph.form || graph.vjp) return Program::add_to_graph(inputs, output_shapes, call, graph);
    return precompiled(inputs, output_shapes, {call, graph.stream});
  }
  if (!api) require_native("'" + op_name() + "' at this size");
  return in_graph(*api, graph, inputs, output_shapes, call);
}

}  // namespace mlx_kd::devices::cuda
