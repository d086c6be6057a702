#include "mlx_kd/runtime/state/process.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/log_once.h"
#include "mlx_kd/runtime/state/environment.h"
#include "mlx_kd/runtime/state/load.h"
#include "mlx_kd/runtime/state/shape_log.h"

namespace mlx_kd::runtime {

namespace {

// By the op's index; misuse where there is no op of a name.
std::vector<bool> flags_of(const std::vector<std::string>& names) {
  std::vector<bool> flags;
  for (const std::string& name : names) {
    const Operator* op = find_operator(name);
    if (!op)
      base::misuse("runtime", "default_kernels names '" + name +
                                  "', which is not an operator: use names of op_names()");
    if (flags.size() <= op->index) flags.resize(op->index + 1u);
    flags[op->index] = true;
  }
  return flags;
}

}  // namespace

Process& Process::shared() {
  static Process& process = *new Process;
  return process;
}

uint32_t Process::start() {
  std::lock_guard change(change_);
  if (const uint32_t modes = modes_.load(std::memory_order_acquire); modes & kStarted) return modes;
  Effective wanted = effective(given());
  ShapeLog::shared().configure();
  auto table = std::make_shared<const Table>();
  std::string error;
  if (wanted.enabled) try {
      table = load_table(wanted);
    } catch (const base::Error& failed) {
      error = failed.what();
      base::log_once("runtime", "pins are on and MLX's operators run: " + error);
    }
  swap(wanted, std::move(table), std::move(error));
  return modes_.load(std::memory_order_acquire);
}

void Process::apply(const std::function<Settings(const Settings&)>& change) {
  std::lock_guard one_at_a_time(change_);
  const Settings changed = change(given());
  Effective wanted = effective(changed);
  flags_of(wanted.default_kernels);
  auto table = wanted.enabled ? load_table(wanted) : std::make_shared<const Table>();
  ShapeLog::shared().configure();
  swap(wanted, std::move(table), "");
  std::lock_guard lock(mutex_);
  given_ = changed;
}

// With change_ held.
void Process::swap(const Effective& wanted, std::shared_ptr<const Table> table, std::string error) {
  {
    std::lock_guard lock(mutex_);
    table_.swap(table);
    error_ = std::move(error);
    files_ = wanted.enabled ? wanted.files : std::vector<std::string>();
    defaults_ = flags_of(wanted.default_kernels);
    generation_.fetch_add(1, std::memory_order_acq_rel);
  }
  modes_.store(kStarted | (wanted.enabled ? kPins : 0u) | (wanted.wait_for_compile ? kWait : 0u) |
                   (ShapeLog::shared().on() ? kShapeLog : 0u) |
                   (wanted.default_kernels.empty() ? 0u : kDefaults),
               std::memory_order_release);
}  // the old table goes here, outside the lock, unless a thread still has it

std::shared_ptr<const Table> Process::table(uint64_t& generation) const {
  std::lock_guard lock(mutex_);
  generation = generation_.load(std::memory_order_acquire);
  return table_;
}

bool Process::runs_default(uint16_t op) const {
  std::lock_guard lock(mutex_);
  return op < defaults_.size() && defaults_[op];
}

Settings Process::given() const {
  std::lock_guard lock(mutex_);
  return given_;
}

std::string Process::error() const {
  std::lock_guard lock(mutex_);
  return error_;
}

std::vector<std::string> Process::files() const {
  std::lock_guard lock(mutex_);
  return files_;
}

}  // namespace mlx_kd::runtime
