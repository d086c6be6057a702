#include "mlx_kd/devices/host/memory/buffer_pool.h"

#include <sys/mman.h>

#include <new>

#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace allocator = mlx::core::allocator;

constexpr size_t kHugePage = size_t(2) << 20;

// Huge pages make the first touch about ten times cheaper. A refusal changes nothing.
void prefer_huge_pages(allocator::Buffer buffer, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const auto begin = reinterpret_cast<uintptr_t>(buffer.raw_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)buffer, (void)bytes, (void)kHugePage;
#endif
}

void give_back_to_shared(allocator::Buffer buffer) {
  BufferPool::shared().give_back(buffer);
}

}  // namespace

BufferPool& BufferPool::shared() {
  static BufferPool* pool = new BufferPool(static_cast<size_t>(env_mib("MLX_KD_POOL_MB", 256)));
  return *pool;
}

BufferPool::~BufferPool() {
  for (const Held& held : held_) allocator::allocator().free(held.buffer);
}

allocator::Buffer BufferPool::take(size_t bytes) {
  {
    std::lock_guard lock(mutex_);
    // The latest given back is the likeliest to be in a cache.
    for (size_t i = held_.size(); i-- > 0;) {
      const Held held = held_[i];
      if (held.bytes < bytes || held.bytes > bytes + bytes / 8) continue;
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
      held_bytes_ -= held.bytes;
      return held.buffer;
    }
  }
  allocator::Buffer buffer = allocator::allocator().malloc(bytes);
  if (buffer.ptr() == nullptr) throw std::bad_alloc();
  prefer_huge_pages(buffer, bytes);
  return buffer;
}

void BufferPool::give_back(allocator::Buffer buffer) {
  const size_t bytes = allocator::allocator().size(buffer);
  std::vector<Held> dropped;
  {
    std::lock_guard lock(mutex_);
    held_.push_back({bytes, buffer});
    held_bytes_ += bytes;
    while (held_bytes_ > limit_) {
      held_bytes_ -= held_.front().bytes;
      dropped.push_back(held_.front());
      held_.erase(held_.begin());
    }
  }
  for (const Held& held : dropped) allocator::allocator().free(held.buffer);
}

size_t BufferPool::held_bytes() const {
  std::lock_guard lock(mutex_);
  return held_bytes_;
}

allocator::Data output_memory(size_t bytes) {
  if (bytes < kPooledBytes) return allocator::malloc(bytes);
  return allocator::Data(BufferPool::shared().take(bytes), give_back_to_shared);
}

}  // namespace mlx_kd::devices::cpu
