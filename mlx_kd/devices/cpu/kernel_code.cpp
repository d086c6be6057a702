#include "mlx_kd/devices/cpu/kernel_code.h"

#include <dlfcn.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/thread_pool.h"

namespace mlx_kd::devices::cpu {
namespace {

struct Work {
  KernelFunction function;
  const void* const* inputs;
  void* const* outputs;
  const FlatCall* call;
};

void run_units(const void* context, int64_t begin, int64_t end) {
  const Work& work = *static_cast<const Work*>(context);
  work.function(work.inputs, work.outputs, work.call->dims.data(), work.call->params.data(), begin,
                end);
}

std::string loader_error() {
  const char* text = dlerror();
  return text ? text : "no reason given";
}

}  // namespace

FlatCall flatten(const Call& call) {
  const auto& dims = call.dims.items();
  if (dims.size() > spec::kMostDims || call.scalars.size() > spec::kMostScalars)
    base::fail("devices", "a CPU kernel takes at most " + std::to_string(spec::kMostDims) + " dims and " +
                              std::to_string(spec::kMostScalars) + " params, not " +
                              std::to_string(dims.size()) + " and " +
                              std::to_string(call.scalars.size()));
  FlatCall flat;
  for (size_t i = 0; i < dims.size(); ++i) flat.dims[i] = static_cast<long>(dims[i].second);
  for (size_t i = 0; i < call.scalars.size(); ++i) flat.params[i] = call.scalars[i];
  flat.units = call.launch().grid[0];
  flat.grain = call.launch().group[0];
  flat.threads = call.launch().threads;
  return flat;
}

KernelCode::KernelCode(const std::filesystem::path& object, const spec::Candidate& candidate)
    : op_name_(candidate.op_name),
      input_count_(candidate.inputs_spec.size()),
      output_count_(candidate.outputs_spec.size()),
      dtype_(candidate.dtype) {
  handle_ = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle_)
    base::fail("devices", "cannot load " + object.string() + " (" + loader_error() +
                              "): kd cache --clear, then try again");
  function_ = reinterpret_cast<KernelFunction>(dlsym(handle_, candidate.func_name.c_str()));
  if (function_) return;
  const std::string reason = loader_error();
  dlclose(handle_);
  base::fail("devices", "the kernel of '" + op_name_ + "' exports no " + candidate.func_name +
                            " (" + reason + "): declare it extern \"C\"");
}

KernelCode::~KernelCode() {
  dlclose(handle_);
}

void KernelCode::run(const void* const* inputs, void* const* outputs, const FlatCall& call) const {
  const Work work{function_, inputs, outputs, &call};
  if (call.threads <= 1) return run_units(&work, 0, call.units);
  ThreadPool::shared().run(call.threads, call.units, call.grain, run_units, &work);
}

}  // namespace mlx_kd::devices::cpu
