#include "mlx_kd/devices/simt/executor/stack_pool.h"

#include <mutex>
#include <vector>

namespace mlx_kd::devices::simt {
namespace {

struct Pool {
  std::mutex mutex;
  std::vector<std::unique_ptr<Stacks>> free;
};

// Never destroyed: a stream of MLX may still run a kernel as the process ends.
Pool& pool() {
  static Pool& one = *new Pool;
  return one;
}

}  // namespace

std::unique_ptr<Stacks> take_stacks(size_t count) {
  std::unique_ptr<Stacks> stacks;
  {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    if (!pool().free.empty()) {
      stacks = std::move(pool().free.back());
      pool().free.pop_back();
    }
  }
  if (!stacks) stacks = std::make_unique<Stacks>();
  stacks->reserve(count);
  return stacks;
}

void give_stacks(std::unique_ptr<Stacks> stacks) {
  const std::lock_guard<std::mutex> lock(pool().mutex);
  pool().free.push_back(std::move(stacks));
}

}  // namespace mlx_kd::devices::simt
