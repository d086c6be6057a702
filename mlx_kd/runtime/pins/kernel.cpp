#include "mlx_kd/runtime/pins/kernel.h"

#include <algorithm>
#include <unordered_map>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/log_once.h"

namespace mlx_kd::runtime {
namespace {

constexpr double kCompileLimit_s = 60;

struct Registry {
  std::mutex mutex;
  std::unordered_multimap<size_t, std::shared_ptr<Kernel>> kernels;
  size_t tidy_at = 256;
};

Registry& registry() {
  static Registry& all =
      *new Registry;  // arrays may run a kernel after every static object is gone
  return all;
}

// With the mutex held. What no pin has any more and no call ever asked for: a program that loads
// changing packs forever must not grow.
void tidy(Registry& all) {
  if (all.kernels.size() < all.tidy_at) return;
  std::erase_if(all.kernels, [](const auto& item) {
    return item.second.use_count() == 1 && item.second->state() == KernelState::unused;
  });
  all.tidy_at = std::max<size_t>(256, 2 * all.kernels.size());
}

size_t hash_of(const spec::Candidate& candidate, const std::string& object) {
  const std::hash<std::string> hash;
  return hash(candidate.source) ^ hash(candidate.knobs.text()) * 3 ^ hash(object) * 5 ^
         hash(candidate.inputs_spec.dump()) * 7 ^ static_cast<size_t>(candidate.dtype);
}

}  // namespace

std::string name_of(KernelState state) {
  switch (state) {
    case KernelState::unused:
      return "unused";
    case KernelState::compiling:
      return "compiling";
    case KernelState::ready:
      return "ready";
    case KernelState::dropped:
      return "dropped";
  }
  return "";
}

Kernel::Kernel(std::shared_ptr<const devices::Device> device, spec::Candidate candidate,
               std::string object, std::string of)
    : device_(std::move(device)),
      candidate_(std::move(candidate)),
      object_(std::move(object)),
      of_(std::move(of)) {}

bool Kernel::is(const devices::Device& device, const spec::Candidate& candidate,
                const std::string& object) const {
  return device_.get() == &device && candidate_.op_name == candidate.op_name &&
         candidate_.language == candidate.language && candidate_.dtype == candidate.dtype &&
         candidate_.func_name == candidate.func_name && candidate_.knobs == candidate.knobs &&
         candidate_.source == candidate.source && object_ == object &&
         candidate_.launch_params == candidate.launch_params &&
         candidate_.inputs_spec == candidate.inputs_spec &&
         candidate_.outputs_spec == candidate.outputs_spec;
}

std::shared_ptr<Kernel> Kernel::with_shapes(const base::Json& inputs_spec,
                                            const base::Json& outputs_spec) const {
  spec::Candidate candidate = candidate_;
  candidate.inputs_spec = inputs_spec;
  candidate.outputs_spec = outputs_spec;
  return kernel_of(device_, candidate, object_, id_in_pack());
}

const devices::Program* Kernel::program(bool wait) {
  if (const auto* ready = program_if_ready()) return ready;
  KernelState seen = KernelState::unused;
  if (state_.compare_exchange_strong(seen, KernelState::compiling, std::memory_order_acq_rel)) {
    build();
  } else if (seen == KernelState::compiling && wait) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return state() != KernelState::compiling; });
  }
  return program_if_ready();
}

// By the one thread that moved the state to `compiling`.
void Kernel::build() {
  const int64_t start = base::steady_ns();
  std::string why;
  std::shared_ptr<const devices::Program> built;
  bool cached = false;
  try {
    const devices::Artifact artifact = object_.empty()
                                           ? device_->compile(candidate_, kCompileLimit_s)
                                           : device_->adopt(object_, candidate_);
    cached = artifact.cached;
    if (artifact.ok)
      built = device_->load(artifact, candidate_);
    else
      why = artifact.error;
  } catch (const std::exception& error) {
    why = error.what();
  }
  {
    std::lock_guard lock(mutex_);
    compile_ms_ = 1e3 * base::seconds_since(start);
    cached_ = cached;
    program_ = built;
    if (built) state_.store(KernelState::ready, std::memory_order_release);
  }
  if (!built) drop(why);
  changed_.notify_all();
}

void Kernel::drop(const std::string& why) {
  {
    std::lock_guard lock(mutex_);
    if (state() == KernelState::dropped) return;
    reason_ = why;
    state_.store(KernelState::dropped, std::memory_order_release);
  }
  base::log_once("runtime", "the kernel " + id_in_pack() + " of " +
                                spec::name_of(candidate_.dtype) + " " + candidate_.op_name +
                                " is not used, MLX's operator runs: " + why);
}

std::string Kernel::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

double Kernel::compile_ms() const {
  std::lock_guard lock(mutex_);
  return compile_ms_;
}

bool Kernel::cached() const {
  std::lock_guard lock(mutex_);
  return cached_;
}

std::shared_ptr<Kernel> kernel_of(const std::shared_ptr<const devices::Device>& device,
                                  const spec::Candidate& candidate, const std::string& object,
                                  const std::string& of) {
  Registry& all = registry();
  const size_t hash = hash_of(candidate, object);
  std::lock_guard lock(all.mutex);
  const auto [begin, end] = all.kernels.equal_range(hash);
  for (auto at = begin; at != end; ++at)
    if (at->second->is(*device, candidate, object)) return at->second;
  tidy(all);
  auto kernel = std::make_shared<Kernel>(device, candidate, object, of);
  all.kernels.emplace(hash, kernel);
  return kernel;
}

std::vector<std::shared_ptr<Kernel>> all_kernels() {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  std::vector<std::shared_ptr<Kernel>> result;
  for (const auto& [hash, kernel] : all.kernels) result.push_back(kernel);
  return result;
}

}  // namespace mlx_kd::runtime
