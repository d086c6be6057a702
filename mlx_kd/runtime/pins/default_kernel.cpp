#include "mlx_kd/runtime/pins/default_kernel.h"

#include <algorithm>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/pins/describe.h"

namespace mlx_kd::runtime {
namespace {

struct Choice {
  Engine engine;
  const spec::Variant* variant;
};

// Those that are meant for the size come first. Variants that give up accuracy are never a default.
std::vector<Choice> choices_for(const spec::Op& op, const Query& query, const spec::Dims& dims) {
  std::vector<Choice> found;
  for (const Engine& engine : engines()) {
    if (engine.place != static_cast<mlx::core::Device::DeviceType>(query.place) ||
        engine.device->lacks(static_cast<spec::Dtype>(query.dtype)))
      continue;
    for (const std::string& language : engine.device->languages())
      for (const spec::Variant& variant : op.variants)
        if (variant.language == language && variant.approximate.empty())
          found.push_back({engine, &variant});
  }
  std::stable_partition(found.begin(), found.end(), [&](const Choice& choice) {
    return !choice.variant->suits || choice.variant->suits(dims);
  });
  return found;
}

std::shared_ptr<const Served> serve(const Choice& choice, const spec::Op& op, const Query& query,
                                    const spec::Dims& dims) {
  const auto dtype = static_cast<spec::Dtype>(query.dtype);
  const spec::Space space = choice.variant->space(dtype, choice.engine.device->id().traits);
  const spec::Setting knobs = spec::default_setting(space);
  const std::vector<double> scalars(query.params.begin(),
                                    query.params.begin() + static_cast<long>(op.scalars.size()));
  auto served = std::make_shared<Served>();
  served->pin = kNoPin;
  served->dtype = dtype;
  // Candidates are those of the first size, so that all sizes share one kernel.
  const spec::Dims first = spec::complete(op, op.suites.front().sizes.front());
  served->kernel =
      kernel_of(choice.engine.device,
                spec::make_candidate(op, *choice.variant, dtype, knobs, space, first), "");
  served->call = devices::make_call(op, *choice.variant, dtype, dims, knobs, scalars);
  for (const spec::ArraySpec& output : served->call.outputs)
    served->outputs.push_back(output.shape);
  return served;
}

spec::Dims size_of(const spec::Op& op, const Query& query) {
  try {
    return dims_of(op, query.dims);
  } catch (const base::Error& error) {
    throw std::invalid_argument(error.what());
  }
}

constexpr const char* kNoKernel = "this build has no kernel of it for a device of this machine";

std::string unusable(const Kernel& kernel) {
  return "its kernel cannot be used: " + kernel.reason();
}

std::shared_ptr<const Served> first_that_runs(const Query& query, bool wait) {
  const spec::Op& op = *all_operators()[query.op].op;
  const spec::Dims dims = size_of(op, query);
  std::string why = kNoKernel;
  for (const Choice& choice : choices_for(op, query, dims)) {
    auto served = serve(choice, op, query, dims);
    if (served->kernel->program(wait)) return served;
    if (!wait && served->kernel->state() == KernelState::compiling) return nullptr;
    why = unusable(*served->kernel);
  }
  throw std::runtime_error("[" + op.name + "] MLX cannot run " + title_of(query) + ", and " + why);
}

}  // namespace

std::shared_ptr<const Served> serve_default(const Query& query) {
  return first_that_runs(query, true);
}

std::shared_ptr<const Served> serve_default_if_ready(const Query& query) {
  return first_that_runs(query, false);
}

std::shared_ptr<Kernel> default_kernel_of(const Query& query, std::string& why_not) {
  const spec::Op& op = *all_operators()[query.op].op;
  why_not = kNoKernel;
  try {
    const spec::Dims dims = size_of(op, query);
    for (const Choice& choice : choices_for(op, query, dims)) {
      auto kernel = serve(choice, op, query, dims)->kernel;
      if (kernel->state() != KernelState::dropped) return kernel;
      why_not = unusable(*kernel);
    }
  } catch (const std::exception& error) {  // a size that it does not take
    why_not = error.what();
  }
  return nullptr;
}

}  // namespace mlx_kd::runtime
