// Who watches a launch: told of every access to memory that kernels share, of meetings and groups.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_kd::devices::simt {

enum class Access : uint8_t { read, write, atomic_read, atomic_write };

// Called on the one system thread of the launch. `thread` is the index in its threadgroup.
class Monitor {
 public:
  virtual ~Monitor() = default;
  virtual void start_group(uint64_t group) = 0;
  // A variable of threadgroup memory: its slot, or -1 - n for the argument [[threadgroup(n)]].
  virtual void add_variable(int name, const void* begin, size_t bytes) = 0;
  virtual void touch(const void* address, size_t bytes, Access kind, const void* code,
                     uint32_t thread) = 0;
  // All threads passed a barrier with these flags (1: device, 2: threadgroup memory).
  virtual void pass_barrier(int flags) = 0;
  virtual void pass_simd_barrier(uint32_t simdgroup, int flags) = 0;
  virtual void divergent(int site, bool barrier, uint32_t thread) = 0;
};

}  // namespace mlx_kd::devices::simt
