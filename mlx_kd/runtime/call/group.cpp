#include "mlx_kd/runtime/call/group.h"

#include "mlx_kd/devices/device.h"
#include "mlx_kd/runtime/state/process.h"

namespace mlx_kd::runtime {

namespace mx = mlx::core;

class CallGroup {
 public:
  CallGroup(std::shared_ptr<const devices::OperationGroup> operations,
            std::vector<Counter*> counters)
      : operations_(std::move(operations)), counters_(std::move(counters)) {}

  std::vector<mx::array> call(const std::vector<mx::array>& inputs, bool counts) const {
    for (size_t i = 0; counts && i < counters_.size(); ++i) counters_[i]->add();
    return operations_->call(inputs);
  }

 private:
  std::shared_ptr<const devices::OperationGroup> operations_;
  std::vector<Counter*> counters_;  // of the thread's ledger, whose lines stay
};

namespace {

thread_local std::vector<Counter*>* noted_counters = nullptr;

// Notes what count() adds to while it lives.
class Noting {
 public:
  explicit Noting(std::vector<Counter*>& counters) : before_(noted_counters) {
    noted_counters = &counters;
  }
  ~Noting() { noted_counters = before_; }
  Noting(const Noting&) = delete;
  Noting& operator=(const Noting&) = delete;

 private:
  std::vector<Counter*>* before_;
};

}  // namespace

void count(Counter& counter) {
  counter.add();
  if (noted_counters) noted_counters->push_back(&counter);
}

Grouped as_group(const std::vector<mx::array>& inputs,
                 const std::function<std::vector<mx::array>()>& build) {
  std::vector<Counter*> counters;
  const Noting noting(counters);
  Grouped made{build(), nullptr};
  if (Process::shared().modes() & kShapeLog) return made;
  if (auto operations = devices::group_operations(inputs, made.outputs)) {
    made.group = std::make_shared<const CallGroup>(std::move(operations), std::move(counters));
    made.outputs = made.group->call(inputs, false);
  }
  return made;
}

std::vector<mx::array> call_again(const CallGroup& group, const std::vector<mx::array>& inputs) {
  return group.call(inputs, true);
}

}  // namespace mlx_kd::runtime
