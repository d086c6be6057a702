#include "mlx_kd/devices/cuda/module/output_pool.h"

#include <algorithm>
#include <bit>
#include <mutex>

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

constexpr size_t kLeastBytes = 512;

const NativeHost* the_host = nullptr;

// One lock for all pools: it is held for some 20 ns.
std::mutex& pool_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

std::unordered_map<int, OutputPool*>& pools() {
  static auto* all = new std::unordered_map<int, OutputPool*>;
  return *all;
}

size_t rounded(size_t bytes) {
  const size_t step = std::max(kLeastBytes, std::bit_floor(std::max(bytes, kLeastBytes)) / 8);
  return (bytes + step - 1) / step * step;
}

}  // namespace

void set_host(const NativeHost* one) {
  the_host = one;
}

const NativeHost& host() {
  return *the_host;
}

OutputPool& OutputPool::of(const mx::Stream& stream) {
  static thread_local int last_stream = -1;
  static thread_local OutputPool* last = nullptr;
  if (last && stream.index == last_stream) return *last;
  const std::lock_guard lock(pool_mutex());
  OutputPool*& pool = pools()[stream.index];
  if (!pool) pool = new OutputPool;
  last_stream = stream.index;
  return *(last = pool);
}

size_t OutputPool::idle_bytes() {
  const std::lock_guard lock(pool_mutex());
  size_t bytes = 0;
  for (const auto& [stream, pool] : pools()) bytes += pool->idle_;
  return bytes;
}

void OutputPool::give_back(mx::allocator::Buffer buffer) {
  auto* one = static_cast<PoolBuffer*>(static_cast<mx::cu::CudaBuffer*>(buffer.ptr()));
  const std::lock_guard lock(pool_mutex());
  Shelf& shelf = one->home->shelves_[one->size];
  if (one->own) --shelf.own_in_use;
  (one->device < 0 ? shelf.unified : shelf.own).push_back(one);
  one->home->idle_ += one->size;
}

PoolBuffer* OutputPool::find(size_t bytes) {
  Shelf& shelf = shelves_[bytes];
  shelf.used = ++takes_;
  const bool takes_unified = shelf.own.empty() && shelf.unified.size() > shelf.own_in_use;
  if (!takes_unified) ++shelf.own_in_use;
  if (!takes_unified && shelf.own.empty()) return nullptr;
  std::vector<PoolBuffer*>& from = takes_unified ? shelf.unified : shelf.own;
  PoolBuffer* one = from.back();
  from.pop_back();
  one->own = !takes_unified;
  idle_ -= bytes;
  return one;
}

// Of the sizes that have not been asked for longest, first.
void OutputPool::trim(size_t limit, void* stream) {
  while (idle_ > limit) {
    Shelf* oldest = nullptr;
    for (auto& [bytes, shelf] : shelves_)
      if (!(shelf.own.empty() && shelf.unified.empty()) && (!oldest || shelf.used < oldest->used))
        oldest = &shelf;
    std::vector<PoolBuffer*>& from = oldest->own.empty() ? oldest->unified : oldest->own;
    PoolBuffer* one = from.back();
    from.pop_back();
    idle_ -= one->size;
    if (one->device < 0)
      host().release_unified(one->data);
    else
      host().release(one->data, stream);
    delete one;
  }
}

mx::allocator::Data OutputPool::take(size_t bytes, mx::cu::CommandEncoder& encoder) {
  const size_t size = rounded(bytes);
  cudaStream_t stream = encoder.stream();
  {
    const std::lock_guard lock(pool_mutex());
    PoolBuffer* one = find(size);
    if (idle_ > host().most_idle_bytes) trim(host().most_idle_bytes, stream);
    if (one) return {mx::allocator::Buffer(static_cast<mx::cu::CudaBuffer*>(one)), give_back};
  }
  void* memory = nullptr;
  try {
    memory = host().allocate(size, stream);
  } catch (const std::exception&) {
    const std::lock_guard lock(pool_mutex());
    trim(0, stream);
  }
  if (!memory) memory = host().allocate(size, stream);
  auto* made = new PoolBuffer{{memory, size, encoder.device().cuda_device()}, this, true};
  return {mx::allocator::Buffer(static_cast<mx::cu::CudaBuffer*>(made)), give_back};
}

}  // namespace mlx_kd::devices::cuda
