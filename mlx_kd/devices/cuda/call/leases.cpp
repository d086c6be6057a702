#include "mlx_kd/devices/cuda/call/leases.h"

#include <mutex>
#include <thread>
#include <unordered_map>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using SharedData = std::shared_ptr<mx::allocator::Data>;

constexpr double kPatience =
    2e-3;  // seconds, to wait for MLX's thread, which is letting go already

struct Lease {
  SharedData owner;  // what frees the memory
  std::weak_ptr<const Mark> mark;
  int holds;
};

struct Leases {
  std::mutex mutex;
  std::unordered_map<const void*, Lease> by_memory;
};

Leases& leases() {
  static auto* const all = new Leases;  // memory may be freed after every static object is gone
  return *all;
}

// Ends a lease with its Data object.
struct Ending {
  std::shared_ptr<const void*> memory;
  SharedData owner;

  void operator()(mx::allocator::Buffer) const {
    const std::lock_guard lock(leases().mutex);
    leases().by_memory.erase(*memory);
  }
};

bool find_lease(const void* memory, Lease& found) {
  const std::lock_guard lock(leases().mutex);
  const auto known = leases().by_memory.find(memory);
  if (known == leases().by_memory.end()) return false;
  found = known->second;
  return true;
}

}  // namespace

mx::array Mark::held_by(const std::shared_ptr<const Mark>& mark) {
  mx::array held({0}, mx::uint8, nullptr, {});
  held.set_data(
      mx::allocator::Data(mx::allocator::Buffer(nullptr), [mark](mx::allocator::Buffer) {}), 0, {1},
      {true, true, true});
  return held;
}

bool is_held_by_graphs_alone(const NativeApi& api, const mx::array& array) {
  if (array.is_donatable()) return true;
  Lease lease{};
  if (api.holders(array) != 1 || !find_lease(array.data_shared_ptr().get(), lease)) return false;
  const long count = array.data_shared_ptr().use_count();  // before the mark is looked at
  if (count == 1) return true;
  if (!lease.mark.expired() || count > 1 + lease.holds) return count == 1 + lease.holds;
  for (const int64_t start = base::steady_ns(); base::seconds_since(start) < kPatience;) {
    if (array.data_shared_ptr().use_count() == 1) return true;
    std::this_thread::yield();
  }
  return false;
}

void lease(const mx::array& input, mx::array& output, const std::shared_ptr<const Mark>& mark,
           int holds) {
  Lease made{};
  if (!find_lease(input.data_shared_ptr().get(), made)) made.owner = input.data_shared_ptr();
  made.mark = mark;
  made.holds = holds;
  auto memory = std::make_shared<const void*>(nullptr);
  mx::allocator::Data data(input.buffer(), Ending{memory, made.owner});
  output.set_data(std::move(data), input.data_size(), input.strides(), input.flags(),
                  input.offset());
  *memory = output.data_shared_ptr().get();
  const std::lock_guard lock(leases().mutex);
  leases().by_memory[*memory] = std::move(made);
}

}  // namespace mlx_kd::devices::cuda
