#include "mlx_kd/devices/cpu/kernel_code.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/float_mode.h"
#include "mlx_kd/devices/host/thread_pool.h"

namespace mlx_kd::devices::cpu {
namespace {

struct Work {
  KernelFunction function;
  const void* const* inputs;
  void* const* outputs;
  const FlatCall* call;
};

// For calls in a user's graph, whose floating-point modes are not checked.
struct Unwatched {};

template <class Guard>
void run_units(const void* context, int64_t begin, int64_t end) {
  const Work& work = *static_cast<const Work*>(context);
  [[maybe_unused]] const Guard guard;
  work.function(work.inputs, work.outputs, work.call->dims.data(), work.call->params.data(), begin,
                end);
}

struct StageWork {
  StageFunction function;
  const KernelArguments* arguments;
};

template <class Guard>
void run_stage_units(const void* context, int64_t begin, int64_t end) {
  const StageWork& work = *static_cast<const StageWork*>(context);
  [[maybe_unused]] const Guard guard;
  work.function(work.arguments, begin, end);
}

std::string loader_error() {
  const char* text = dlerror();
  return text ? text : "no reason given";
}

uint64_t next_number() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

// Scratch memory of the calling thread, kept between calls; each array starts on a cache line.
class ScratchMemory {
 public:
  void hand_out(const std::vector<int64_t>& bytes, void** arrays) {
    constexpr int64_t kLine = 64;
    int64_t all = kLine;
    for (const int64_t one : bytes) all += (one + kLine - 1) / kLine * kLine;
    if (all > static_cast<int64_t>(memory_.size())) memory_.resize(static_cast<size_t>(all));
    const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
    std::byte* next = memory_.data() + (kLine - begin % kLine) % kLine;
    for (size_t i = 0; i < bytes.size(); ++i) {
      arrays[i] = next;
      next += (bytes[i] + kLine - 1) / kLine * kLine;
    }
  }

 private:
  std::vector<std::byte> memory_;
};

}  // namespace

bool StagedCall::operator==(const StagedCall& other) const {
  return std::memcmp(&arguments, &other.arguments, sizeof arguments) == 0 && steps == other.steps &&
         scratch == other.scratch && updates == other.updates && strided_axes == other.strided_axes;
}

bool operator==(const FlatCall& a, const FlatCall& b) {
  if (a.staged && b.staged)
    return a.params == b.params && (a.staged == b.staged || *a.staged == *b.staged);
  return !a.staged && !b.staged && a.dims == b.dims && a.params == b.params && a.units == b.units &&
         a.grain == b.grain && a.threads == b.threads;
}

KernelCode::KernelCode(const std::filesystem::path& object, const spec::Candidate& candidate)
    : number_(next_number()),
      op_name_(candidate.op_name),
      input_count_(candidate.inputs_spec.size()),
      output_count_(candidate.outputs_spec.size()),
      takes_arguments_(spec::abi_of(candidate.language, spec::launch_kind_of(candidate)) ==
                       spec::Abi::arguments) {
  handle_ = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle_)
    base::fail("devices", "cannot load " + object.string() + " (" + loader_error() +
                              "): kd cache --clear, then try again");
  void* const found = dlsym(handle_, candidate.func_name.c_str());
  if (found) {
    if (!takes_arguments_) function_ = reinterpret_cast<KernelFunction>(found);
    return;
  }
  const std::string reason = loader_error();
  dlclose(handle_);
  base::fail("devices", "the kernel of '" + op_name_ + "' exports no " + candidate.func_name +
                            " (" + reason + "): declare it extern \"C\"");
}

KernelCode::~KernelCode() {
  dlclose(handle_);
}

StageFunction KernelCode::stage_function(const std::string& name) const {
  std::lock_guard lock(mutex_);
  StageFunction& function = stages_[name];
  if (!function) function = reinterpret_cast<StageFunction>(dlsym(handle_, name.c_str()));
  if (!function)
    base::fail("devices", "the kernel of '" + op_name_ + "' exports no " + name +
                              ", which a stage calls: declare it extern \"C\"");
  return function;
}

FlatCall KernelCode::flatten(const Call& call) const {
  FlatCall flat;
  std::copy(call.scalars.begin(), call.scalars.end(), flat.params.begin());
  if (takes_arguments_) {
    flat.staged = stage(call);
    return flat;
  }
  const auto& dims = call.dims.items();
  for (size_t i = 0; i < dims.size(); ++i) flat.dims[i] = static_cast<long>(dims[i].second);
  flat.units = call.launch().grid[0];
  flat.grain = call.launch().group[0];
  flat.threads = call.launch().threads;
  return flat;
}

FlatCall KernelCode::flatten_once(const Call& call) const {
  if (!takes_arguments_) return flatten(call);
  FlatCall flat;
  std::copy(call.scalars.begin(), call.scalars.end(), flat.params.begin());
  if (const auto* const kept = call.prepared.of(number_)) {
    flat.staged = std::static_pointer_cast<const StagedCall>(*kept);
  } else {
    flat.staged = stage(call);
    call.prepared.keep(number_, flat.staged);
  }
  return flat;
}

std::shared_ptr<const StagedCall> KernelCode::stage(const Call& call) const {
  auto staged = std::make_shared<StagedCall>();
  staged->arguments = arguments_of(call);
  std::fill_n(staged->arguments.scalars, spec::kMostScalars, 0.0);
  staged->steps.reserve(call.stages.size());
  for (const spec::Stage& stage : call.stages)
    if (stage.launch.grid[0] > 0)
      staged->steps.push_back(
          {stage_function(stage.func_name),
           reinterpret_cast<StageQuestion>(dlsym(handle_, (stage.func_name + "_runs").c_str())),
           stage.launch.grid[0], stage.launch.group[0], stage.launch.threads, stage.index});
  staged->scratch = call.scratch;
  staged->updates = call.updates;
  for (size_t i = 0; i < call.inputs.size(); ++i)
    staged->strided_axes.push_back(call.strided_axes(i));
  return staged;
}

template <class Guard>
void KernelCode::run_stages(const void* const* inputs, void* const* outputs, const FlatCall& flat,
                            const Strides* strides) const {
  static thread_local ScratchMemory scratch;
  const StagedCall& call = *flat.staged;
  KernelArguments arguments = call.arguments;
  std::copy(flat.params.begin(), flat.params.end(), arguments.scalars);
  std::copy_n(inputs, input_count_, arguments.inputs);
  std::copy_n(outputs, output_count_, arguments.outputs);
  if (strides) std::copy_n(strides, input_count_, arguments.strides);
  if (!call.scratch.empty()) scratch.hand_out(call.scratch, arguments.scratch);
  for (const StagedCall::Step& step : call.steps) {
    arguments.stage = step.index;
    if (step.runs && !step.runs(&arguments)) continue;
    const StageWork work{step.function, &arguments};
    if (step.threads <= 1)
      run_stage_units<Guard>(&work, 0, step.units);
    else
      ThreadPool::shared().run(step.threads, step.units, step.grain, run_stage_units<Guard>, &work);
  }
}

template <class Guard>
void KernelCode::run_guarded(const void* const* inputs, void* const* outputs, const FlatCall& call,
                             const Strides* strides) const {
  if (call.staged) return run_stages<Guard>(inputs, outputs, call, strides);
  const Work work{function_, inputs, outputs, &call};
  if (call.threads <= 1) return run_units<Guard>(&work, 0, call.units);
  ThreadPool::shared().run(call.threads, call.units, call.grain, run_units<Guard>, &work);
}

void KernelCode::run(const void* const* inputs, void* const* outputs, const FlatCall& call,
                     const Strides* strides) const {
  run_guarded<Unwatched>(inputs, outputs, call, strides);
}

void KernelCode::run_watched(const void* const* inputs, void* const* outputs,
                             const FlatCall& call) const {
  run_guarded<FloatModeGuard>(inputs, outputs, call, nullptr);
}

}  // namespace mlx_kd::devices::cpu
