#include "mlx_kd/devices/cuda/call/stage_program.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/driver/tensor_maps.h"
#include "mlx_kd/devices/host/check_arrays.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

// Attributes of functions, by their numbers in the driver's interface.
constexpr int kThreadsAttribute = 0, kStaticBytes = 1, kDynamicBytes = 8, kLargeClusters = 14;
constexpr int64_t kPortableCluster = 8;

// A source that has it has it in each of its kernels: in every thread, before it reads anything but
// weights, and before it writes.
constexpr const char* kWaits = "griddepcontrol.wait";

int attribute(Function function, int which) {
  int value = 0;
  check(driver().function_get(&value, which, function), "asking what a kernel needs");
  return value;
}

void check_counts(const std::string& op_name, const ArgumentCounts& counts, const Call& call) {
  const auto check_one = [&](size_t count, size_t most, const char* what) {
    if (count > most)
      base::misuse("devices", "a call of '" + op_name + "' has " + std::to_string(count) + " " +
                                  what + ": its kernel in CUDA C++ was compiled for " +
                                  std::to_string(most));
  };
  check_one(call.dims.items().size(), counts.dims, "sizes");
  check_one(call.scalars.size(), counts.scalars, "numbers");
  check_one(call.scratch.size(), spec::kMostScratch, "scratch arrays");
  check_one(call.inputs.size(), counts.inputs, "inputs");
  check_one(call.outputs.size(), counts.outputs, "outputs");
}

Strides strides_in(const mx::array& array) {
  const auto& all = array.strides();
  Strides strides = {};
  for (size_t d = 0; d < std::min(all.size(), kStrideAxes); ++d)
    strides[kStrideAxes - 1 - d] = all[all.size() - 1 - d];
  return strides;
}

// Where the arrays of a call begin.
struct CallPointers {
  const void* const* inputs;
  void* const* outputs;
  void* const* scratch;

  const void* operator()(const spec::TensorMap& map) const {
    using Array = spec::TensorMap::Array;
    return map.array == Array::input    ? inputs[map.index]
           : map.array == Array::output ? outputs[map.index]
                                        : scratch[map.index];
  }
};

// One call as a primitive launches it.
class StageWork final : public NativeWork {
 public:
  StageWork(std::shared_ptr<const StageNodes> nodes, const std::vector<double>& scalars)
      : nodes_(std::move(nodes)), scalar_count_(scalars.size()) {
    std::copy(scalars.begin(), scalars.end(), scalars_.begin());
  }

  const NativeKernel& kernel() const override { return nodes_->kernel; }
  std::span<const double> params() const override { return {scalars_.data(), scalar_count_}; }

  void launch(const NativeMemory& memory, const Add& add) const override {
    PackedArguments arguments(nodes_->arguments);
    const NativeKernel& made_for = kernel();
    for (size_t i = 0; i < scalar_count_; ++i) arguments.set_scalar(i, scalars_[i]);
    for (size_t i = 0; i < made_for.layouts.size(); ++i) {
      arguments.set_input(i, memory.inputs[i]);
      if (made_for.layouts[i] == NativeKernel::Layout::last_axis &&
          memory.in[i]->ndim() == made_for.axes[i])
        arguments.set_strides(i, strides_in(*memory.in[i]));
    }
    for (size_t i = 0; i < made_for.updates.size(); ++i) arguments.set_output(i, memory.outputs[i]);
    for (size_t i = 0; i < made_for.scratch_bytes.size(); ++i)
      arguments.set_scratch(i, memory.scratch[i]);
    const CallPointers pointers = {memory.inputs.data(), memory.outputs.data(),
                                   memory.scratch.data()};
    EncodedMaps maps;
    void* parameters[] = {arguments.data(), maps.data()};
    for (const StageNodes::Node& node : nodes_->nodes) {
      arguments.set_stage(node.index);
      maps.encode(node.maps, pointers);
      add(node.launch, parameters);
    }
  }

  bool same(const NativeWork& other) const override {
    const auto* work = dynamic_cast<const StageWork*>(&other);
    return work && work->nodes_ == nodes_ && work->scalars_ == scalars_;
  }

 private:
  std::shared_ptr<const StageNodes> nodes_;
  std::array<double, spec::kMostScalars> scalars_ = {};
  size_t scalar_count_;
};

}  // namespace

StageKernels::StageKernels(std::shared_ptr<const Code> code, std::string file, CompileAlone alone)
    : file_(std::move(file)), code_(std::move(code)), alone_(std::move(alone)) {}

Function StageKernels::find(const std::string& func_name) const {
  const Function function = code_->find(func_name);
  if (function || !alone_) return function;
  const auto code = std::make_shared<const Code>(alone_(func_name));
  keep_loaded(code);
  return code->find(func_name);
}

const StageKernels::Entry& StageKernels::at(const std::string& func_name) const {
  const std::lock_guard lock(mutex_);
  if (const auto known = entries_.find(func_name); known != entries_.end()) return known->second;
  const Function function = find(func_name);
  if (!function)
    base::misuse("devices", file_ + " has no kernel '" + func_name +
                                "': define it as extern \"C\" __global__");
  FunctionLimits limits;
  limits.most_threads = attribute(function, kThreadsAttribute);
  limits.static_bytes = attribute(function, kStaticBytes);
  limits.group_bytes = gpu().group_bytes;
  limits.sm = gpu().sm;
  const int dynamic = static_cast<int>(limits.group_bytes) - limits.static_bytes;
  if (dynamic > 0)
    check(driver().function_set(function, kDynamicBytes, dynamic), "asking for shared memory");
  return entries_[func_name] = {function, limits};
}

StageProgram::StageProgram(const std::string& cubin, const spec::Candidate& candidate,
                           CompileAlone alone)
    : StagedProgram(candidate.op_name, std::make_shared<Code>(cubin)),
      counts_(argument_counts(candidate)),
      kernels_(code(), source_file(candidate), std::move(alone)),
      waits_(candidate.source.find(kWaits) != std::string::npos) {
  kernels_.at(candidate.func_name);
}

std::shared_ptr<const StageNodes> StageProgram::nodes_of(const Call& call) const {
  check_counts(op_name(), counts_, call);
  const auto fits = [&call](const Size& size) {
    return size.dims == call.dims && size.stages == call.stages && size.scratch == call.scratch &&
           size.inputs == call.inputs && size.outputs == call.outputs;
  };
  if (auto known = nodes_.find_if(fits)) return known;
  auto made = make_nodes(call);
  nodes_.keep({call.dims, call.stages, call.scratch, call.inputs, call.outputs}, made);
  return made;
}

std::shared_ptr<const StageNodes> StageProgram::make_nodes(const Call& call) const {
  use_gpu();
  auto made =
      std::make_shared<StageNodes>(native_kernel(op_name(), call), counts_, arguments_of(call));
  for (const spec::Stage& stage : call.stages) {
    if (!has_threads(stage)) continue;
    const StageKernels::Entry& kernel = kernels_.at(stage.func_name);
    NativeNode node = native_node(kernel.function, stage_size(op_name(), stage, kernel.limits));
    const auto& cluster = stage.launch.cluster;
    for (size_t d = 0; d < 3; ++d) node.cluster[d] = static_cast<unsigned>(cluster[d]);
    node.shared_bytes = static_cast<unsigned>(stage.launch.shared_bytes);
    node.early = waits_;
    check_tensor_maps(op_name(), stage, gpu().sm);
    if (cluster[0] * cluster[1] * cluster[2] > kPortableCluster)
      check(driver().function_set(kernel.function, kLargeClusters, 1), "asking for large clusters");
    made->nodes.push_back({node, stage.index, stage.tensor_maps});
  }
  return made;
}

void StageProgram::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                       const Call& call, const CallScratch& scratch, Stream stream) const {
  const auto nodes = nodes_of(call);
  PackedArguments arguments(nodes->arguments);
  for (size_t i = 0; i < call.scalars.size(); ++i) arguments.set_scalar(i, call.scalars[i]);
  for (size_t i = 0; i < inputs.size(); ++i) {
    arguments.set_input(i, inputs[i]);
    arguments.set_strides(i, strides_of(call.inputs[i]));
  }
  for (size_t i = 0; i < outputs.size(); ++i) arguments.set_output(i, outputs[i]);
  for (size_t i = 0; i < call.scratch.size(); ++i) arguments.set_scratch(i, scratch.memory()[i]);
  const CallPointers pointers = {inputs.data(), outputs.data(), scratch.memory().data()};
  EncodedMaps maps;
  void* parameters[] = {arguments.data(), maps.data()};
  for (const StageNodes::Node& node : nodes->nodes) {
    arguments.set_stage(node.index);
    maps.encode(node.maps, pointers);
    launch_node(node.launch, parameters, stream);
  }
}

std::vector<mx::array> StageProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                  const std::vector<mx::Shape>& output_shapes,
                                                  const Call& call, const GraphCall& graph) const {
  check_arrays(op_name(), inputs, output_shapes.size(), call);
  const NativeApi& api = require_native("'" + op_name() + "' in CUDA C++");
  return in_graph(api, graph, inputs, output_shapes, call);
}

std::shared_ptr<const NativeWork> StageProgram::work_for(const Call& call) const {
  return std::make_shared<StageWork>(nodes_of(call), call.scalars);
}

}  // namespace mlx_kd::devices::cuda
