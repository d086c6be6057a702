// Memory for large outputs, kept between calls with its pages touched.
//
// MLX keeps at most 32 MiB of freed memory; beyond that every large output is fresh from the
// system, and the first touch of its pages costs more than the kernel. MLX's count of active memory
// includes what lies here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "mlx/allocator.h"

namespace mlx_kd::devices::cpu {

// Outputs of at least this many bytes come from the pool; below it MLX's own cache does as well.
inline constexpr size_t kPooledBytes = size_t(1) << 20;

// Thread-safe.
class BufferPool {
 public:
  // The pool of the process, bounded by MLX_KD_POOL_MB (256). Never destroyed: arrays may outlive
  // every static object.
  static BufferPool& shared();

  explicit BufferPool(size_t limit_bytes) : limit_(limit_bytes) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer of at least `bytes`, and at most an eighth more. Throws std::bad_alloc.
  mlx::core::allocator::Buffer take(size_t bytes);

  // Keeps the buffer for the next take; the longest kept go where the limit is passed.
  void give_back(mlx::core::allocator::Buffer buffer);

  size_t held_bytes() const;

 private:
  struct Held {
    size_t bytes;
    mlx::core::allocator::Buffer buffer;
  };

  mutable std::mutex mutex_;
  std::vector<Held> held_;  // in order of giving back
  size_t held_bytes_ = 0;
  const size_t limit_;
};

// An array's memory: from the shared pool if large, else from MLX.
mlx::core::allocator::Data output_memory(size_t bytes);

}  // namespace mlx_kd::devices::cpu
