#include "mlx_kd/devices/cuda/stage_program.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

// Attributes of functions, by their numbers in the driver's interface.
constexpr int kMostThreads = 0, kStaticBytes = 1, kDynamicBytes = 8, kLargeClusters = 14;
constexpr int64_t kPortableCluster = 8;

int attribute(Function function, int which) {
  int value = 0;
  check(driver().function_get(&value, which, function), "asking what a kernel needs");
  return value;
}

// The numbers of a call; the pointers and strides come with its arrays.
struct Numbers {
  std::array<int64_t, kMostDims> dims = {};
  std::array<double, kMostScalars> scalars = {};
  size_t scalar_count = 0;

  explicit Numbers(const LaunchPlan& plan) : scalar_count(plan.scalars.size()) {
    size_t i = 0;
    for (const auto& [name, value] : plan.dims.items()) dims[i++] = value;
    std::copy(plan.scalars.begin(), plan.scalars.end(), scalars.begin());
  }
  bool operator==(const Numbers&) const = default;

  KernelArguments arguments() const {
    KernelArguments made = {};
    std::copy(dims.begin(), dims.end(), made.dims);
    std::copy(scalars.begin(), scalars.end(), made.scalars);
    return made;
  }
};

void check_counts(const CudaSource& source, const LaunchPlan& plan) {
  const auto check_one = [&](size_t count, size_t most, const char* what) {
    if (count > most)
      base::misuse("devices", "a call of '" + source.op_name + "' has " + std::to_string(count) +
                                  " " + what + ": a kernel in CUDA C++ takes " +
                                  std::to_string(most));
  };
  check_one(plan.dims.items().size(), kMostDims, "sizes");
  check_one(plan.scalars.size(), kMostScalars, "numbers");
  check_one(plan.scratch_bytes.size(), kMostScratch, "scratch arrays");
}

void put_strides(const mx::array& array, int64_t (&strides)[kStrideAxes]) {
  const size_t axes = std::min(array.strides().size(), kStrideAxes);
  for (size_t d = 0; d < axes; ++d)
    strides[kStrideAxes - 1 - d] = array.strides()[array.strides().size() - 1 - d];
}

// A call of a plan as a primitive launches it.
class StageWork final : public NativeWork {
 public:
  StageWork(const LaunchPlan& plan, std::shared_ptr<const StageNodes> nodes)
      : nodes_(std::move(nodes)), numbers_(plan) {}

  const NativeKernel& kernel() const override { return nodes_->kernel; }
  std::span<const double> params() const override {
    return {numbers_.scalars.data(), numbers_.scalar_count};
  }

  void launch(const NativeMemory& memory, const Add& add) const override {
    KernelArguments arguments = numbers_.arguments();
    const size_t inputs = kernel().layouts.size(), outputs = kernel().updates.size();
    for (size_t i = 0; i < inputs; ++i) {
      arguments.inputs[i] = memory.inputs[i];
      put_strides(*memory.in[i], arguments.strides[i]);
    }
    for (size_t i = 0; i < outputs; ++i) {
      arguments.outputs[i] = memory.outputs[i];
      put_strides(*memory.out[i], arguments.strides[inputs + i]);
    }
    for (size_t i = 0; i < kernel().scratch_bytes.size(); ++i)
      arguments.scratch[i] = memory.scratch[i];
    void* parameters[] = {&arguments};
    for (const StageNodes::Node& node : nodes_->nodes) {
      arguments.stage = node.index;
      add(node.launch, parameters);
    }
  }

  bool same(const NativeWork& other) const override {
    const auto* work = dynamic_cast<const StageWork*>(&other);
    return work && work->nodes_ == nodes_ && work->numbers_ == numbers_;
  }

 private:
  std::shared_ptr<const StageNodes> nodes_;
  Numbers numbers_;
};

NativeKernel kernel_of(const CudaSource& source, const LaunchPlan& plan) {
  NativeKernel kernel;
  kernel.op_name = source.op_name;
  for (const PlanPort& port : source.inputs)
    kernel.layouts.push_back(port.strided ? NativeKernel::Layout::last_axis
                                          : NativeKernel::Layout::row_major);
  for (const PlanPort& port : source.outputs) kernel.updates.push_back(port.updates);
  kernel.scratch_bytes.assign(plan.scratch_bytes.begin(), plan.scratch_bytes.end());
  return kernel;
}

void launch_node(const NativeNode& node, void** parameters, Stream stream) {
  LaunchConfig config = {};
  LaunchAttribute attribute = {};
  attribute.id = kClusterAttribute;
  int64_t cluster = 1;
  for (size_t d = 0; d < 3; ++d) {
    config.blocks[d] = node.blocks[d];
    config.threads[d] = node.threads[d];
    attribute.cluster[d] = node.cluster[d];
    cluster *= node.cluster[d];
  }
  config.dynamic_bytes = node.shared_bytes;
  config.stream = stream;
  config.attributes = &attribute;
  config.attribute_count = cluster > 1 ? 1 : 0;
  check(driver().launch_config(&config, static_cast<Function>(node.function), parameters, nullptr),
        "launching a kernel");
}

}  // namespace

StageKernels::StageKernels(const std::string& cubin, const CudaSource& source)
    : file_(source.file), code_(std::make_shared<Code>(cubin)) {
  at(source.func_name);
}

const StageKernels::Entry& StageKernels::at(const std::string& func_name) const {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[func_name];
  if (entry.function) return entry;
  const Function function = code_->find(func_name);
  if (!function) {
    entries_.erase(func_name);
    base::misuse("devices", file_ + " has no kernel '" + func_name +
                                "': define it as extern \"C\" __global__");
  }
  FunctionLimits& limits = entry.limits;
  limits.most_threads = attribute(function, kMostThreads);
  limits.static_bytes = attribute(function, kStaticBytes);
  limits.group_bytes = gpu().group_bytes;
  limits.sm = gpu().sm;
  const int dynamic = static_cast<int>(limits.group_bytes) - limits.static_bytes;
  if (dynamic > 0)
    check(driver().function_set(function, kDynamicBytes, dynamic), "asking for shared memory");
  entry.function = function;
  return entry;
}

StageProgram::StageProgram(const std::string& cubin, CudaSource source)
    : source_(std::move(source)), kernels_(cubin, source_) {
  for (const PlanPort& port : source_.outputs) output_types_.push_back(mlx_type(port.type));
}

std::shared_ptr<const StageNodes> StageProgram::nodes_of(const LaunchPlan& plan) const {
  const auto fits = [&plan](const Size& size) {
    return size.stages == plan.stages && size.scratch_bytes == plan.scratch_bytes;
  };
  check_counts(source_, plan);
  if (auto known = nodes_.find_if(fits)) return known;
  use_gpu();
  auto made = std::make_shared<StageNodes>();
  made->kernel = kernel_of(source_, plan);
  for (const PlanStage& stage : plan.stages) {
    const StageKernels::Entry& kernel = kernels_.at(stage.func_name);
    const LaunchSize launch = stage_size(source_.op_name, stage, kernel.limits);
    NativeNode node = {};
    node.function = kernel.function;
    for (size_t d = 0; d < 3; ++d) {
      node.blocks[d] = launch.blocks[d];
      node.threads[d] = launch.threads[d];
      node.cluster[d] = static_cast<unsigned>(stage.cluster[d]);
    }
    node.shared_bytes = static_cast<unsigned>(stage.shared_bytes);
    if (stage.cluster[0] * stage.cluster[1] * stage.cluster[2] > kPortableCluster)
      check(driver().function_set(kernel.function, kLargeClusters, 1), "asking for large clusters");
    made->nodes.push_back({node, stage.index});
  }
  nodes_.keep({plan.stages, plan.scratch_bytes}, made);
  return made;
}

void StageProgram::Scratch::reserve(const std::vector<int64_t>& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto needed = static_cast<size_t>(wanted[i]);
    if (needed <= bytes[i]) continue;
    kept.emplace_back(wanted[i]);
    bytes[i] = needed;
    memory[i] = reinterpret_cast<void*>(kept.back().at());
  }
}

void StageProgram::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                       const LaunchPlan& plan, const Scratch& scratch, Stream stream) const {
  const auto nodes = nodes_of(plan);
  KernelArguments arguments = Numbers(plan).arguments();
  std::copy(inputs.begin(), inputs.end(), arguments.inputs);
  std::copy(outputs.begin(), outputs.end(), arguments.outputs);
  for (size_t i = 0; i < source_.outputs.size(); ++i)
    if (const int updated = source_.outputs[i].updates; updated >= 0)
      arguments.inputs[updated] = outputs[i];
  std::copy(scratch.memory.begin(), scratch.memory.end(), arguments.scratch);
  for (size_t i = 0; i < plan.strides.size(); ++i)
    std::copy(plan.strides[i].begin(), plan.strides[i].end(), arguments.strides[i]);
  void* parameters[] = {&arguments};
  for (const StageNodes::Node& node : nodes->nodes) {
    arguments.stage = node.index;
    launch_node(node.launch, parameters, stream);
  }
}

void StageProgram::launch_plan(const std::vector<const void*>& inputs,
                               const std::vector<void*>& outputs, const LaunchPlan& plan) const {
  use_gpu();
  const std::lock_guard lock(mutex_);
  launched_.reserve(plan.scratch_bytes);
  run(inputs, outputs, plan, launched_, stream_);
  check(driver().stream_wait(stream_), ("running '" + source_.op_name + "'").c_str());
}

void StageProgram::prepare_plan(const LaunchPlan& plan) const {
  use_gpu();
  nodes_of(plan);
  const std::lock_guard lock(mutex_);
  queued_.reserve(plan.scratch_bytes);
}

void StageProgram::queue_plan(const std::vector<const void*>& inputs,
                              const std::vector<void*>& outputs, const LaunchPlan& plan,
                              Stream stream) const {
  run(inputs, outputs, plan, queued_, stream);
}

void StageProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                          const Call& call) const {
  launch_plan(inputs, outputs, plan_of(call, source_.func_name));
}

void StageProgram::prepare(const Call& call) const {
  prepare_plan(plan_of(call, source_.func_name));
}

void StageProgram::queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call, Stream stream) const {
  queue_plan(inputs, outputs, plan_of(call, source_.func_name), stream);
}

void StageProgram::check_arrays(const std::vector<mx::array>& inputs, size_t outputs) const {
  const auto op = [this] { return "op '" + source_.op_name + "'"; };
  if (inputs.size() != source_.inputs.size() || outputs != source_.outputs.size())
    base::fail("devices", op() + " takes " + std::to_string(source_.inputs.size()) +
                              " inputs and gives " + std::to_string(source_.outputs.size()) +
                              " outputs, not " + std::to_string(inputs.size()) + " and " +
                              std::to_string(outputs));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].dtype() != mlx_type(source_.inputs[i].type))
      base::fail("devices", "input '" + source_.inputs[i].name + "' of " + op() +
                                " is not of type " + name_of(source_.inputs[i].type) +
                                ", which its kernel takes");
}

std::vector<mx::array> StageProgram::apply(const std::vector<mx::array>& inputs,
                                           const std::vector<mx::Shape>& output_shapes,
                                           const LaunchPlan& plan, const Graft& graft) const {
  check_arrays(inputs, output_shapes.size());
  const NativeApi* api = find_native();
  std::string why;
  if (!api) find_native(&why);
  if (!api)
    base::fail("devices", "'" + source_.op_name +
                              "' in CUDA C++ runs on MLX's arrays through libmlx_kd_cuda_native "
                              "alone, which cannot be used (" +
                              why + "): docs/cuda.md says how it is built");
  std::call_once(kept_, [this] { keep_loaded(kernels_.code()); });
  auto work = std::make_shared<StageWork>(plan, nodes_of(plan));
  return native_call(*api, graft, std::move(work), inputs, output_shapes, output_types_);
}

std::vector<mx::array> StageProgram::call(const std::vector<mx::array>& inputs,
                                          const std::vector<spec::Shape>& output_shapes,
                                          spec::Dtype output_dtype, const Call& call) const {
  return graft(inputs, mlx_shapes(output_shapes), output_dtype, call,
               {mx::default_stream(mx::Device::gpu), nullptr});
}

std::vector<mx::array> StageProgram::graft(const std::vector<mx::array>& inputs,
                                           const std::vector<mx::Shape>& output_shapes, spec::Dtype,
                                           const Call& call, const Graft& graft) const {
  return apply(inputs, output_shapes, plan_of(call, source_.func_name), graft);
}

}  // namespace mlx_kd::devices::cuda
