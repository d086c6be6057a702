// Memory for outputs on the GPU, a pool per stream.
//
// MLX's allocator gives the GPU's own memory only to MLX itself; what allocator::malloc gives is
// managed memory, and may wait for the GPU. So outputs come from here: allocated in the order of
// the stream, wrapped as a buffer of MLX whose deleter brings it back to the same pool.
//
// Why memory may be used again at once: MLX holds the inputs of a graph until the graph is done, so
// only memory whose last use was as the output of an array that nobody kept can still be written;
// its next use is on the same stream, after that write. Within one graph the buffer's address keeps
// the two in order, for it is what MLX knows outputs by.
//
// When the host reads an array, MLX moves it to managed memory. Such buffers are kept apart and
// used where there is no other: an output that is read after every call finds them again.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "mlx/backend/cuda/device.h"
#include "mlx_kd/devices/cuda/native_api.h"

namespace mlx_kd::devices::cuda {

class OutputPool;

struct PoolBuffer : mlx::core::cu::CudaBuffer {
  OutputPool* home;
  bool own;  // when it was taken: MLX may have moved it since
};

// Sizes are rounded up to steps of an eighth, 512 bytes at least. Thread-safe.
class OutputPool {
 public:
  // The pool of a stream. Never destroyed: arrays may outlive their stream.
  static OutputPool& of(const mlx::core::Stream& stream);
  static size_t idle_bytes();

  // On the thread that evaluates on the stream; releases what is idle beyond
  // NativeHost::most_idle_bytes.
  mlx::core::allocator::Data take(size_t bytes, mlx::core::cu::CommandEncoder& encoder);

 private:
  struct Shelf {
    std::vector<PoolBuffer*> own, unified;  // the latest given back last
    size_t own_in_use = 0;
    size_t used = 0;  // when it was last taken from
  };
  static void give_back(mlx::core::allocator::Buffer buffer);
  PoolBuffer* find(size_t bytes);  // nullptr: allocate one, which counts as in use
  void trim(size_t limit, void* stream);

  std::unordered_map<size_t, Shelf> shelves_;
  size_t idle_ = 0, takes_ = 0;
};

// What release and allocation go through; set once, before the first take.
void set_host(const NativeHost* host);
const NativeHost& host();

}  // namespace mlx_kd::devices::cuda
