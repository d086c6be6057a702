// The first GPU, by the driver: its memory, its streams, its kernels. MLX works in the same
// context.
//
// Everything here fails (exit 1) with the driver's words; after a fault of a kernel every call
// does, for the context is gone.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/devices/cuda/driver/driver_api.h"
#include "mlx_kd/spec/device_id.h"

namespace mlx_kd::devices::cuda {

// Makes the context of the first GPU that of the calling thread. It is created once for each
// process, which takes some 100 ms.
void use_gpu();

// What it is. Needs no context.
struct GpuInfo {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int sm = 0;        // 90
  int64_t l2_bytes = 0;
  int processors = 0;
  int64_t group_bytes = 0;  // shared memory that a block may ask for
};
// Why the driver shows none; `visible`: CUDA_VISIBLE_DEVICES, null where it is not set.
std::string why_none_is_shown(const char* visible);

// nullptr, with the reason in `why`, where there is none. Once for each process.
const GpuInfo* find_gpu(std::string* why = nullptr);
const GpuInfo& gpu();  // fails where there is none

// Returns when the memory holds it: our streams do not wait for what the driver still copies.
void write_memory(Address to, const void* from, size_t bytes);
void fill_memory(Address to, unsigned char byte, size_t bytes);

class Memory {
 public:
  explicit Memory(int64_t bytes);
  Memory(Memory&& other) noexcept : at_(other.at_) { other.at_ = 0; }
  Memory& operator=(Memory&&) = delete;
  ~Memory();
  Address at() const { return at_; }

 private:
  Address at_ = 0;
};

class OwnStream {
 public:
  OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  ~OwnStream();
  operator Stream() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

class OwnEvent {
 public:
  OwnEvent();
  OwnEvent(const OwnEvent&) = delete;
  OwnEvent& operator=(const OwnEvent&) = delete;
  ~OwnEvent();
  operator Event() const { return event_; }

 private:
  Event event_ = nullptr;
};

// Blocks and threads of a launch.
struct LaunchSize {
  std::array<unsigned, 3> blocks, threads;
  int64_t block_threads() const { return int64_t{threads[0]} * threads[1] * threads[2]; }
};
// From Metal's sizes: `grid` counts threads, a group is at most the grid. Misuse for what Metal or
// CUDA does not take: a size of 0, more than 1,024 threads in a group or 64 in z, 2^31 groups or
// more in x, more than 65,535 in y or z, 2^32 threads or more in a dimension.
LaunchSize launch_size(const std::array<int64_t, 3>& grid, const std::array<int64_t, 3>& group);

// The values of a kernel's parameters. Copied by a launch before it returns.
class Parameters {
 public:
  void add(const void* pointer) { put(&pointer, sizeof pointer); }
  void add(Address pointer) { put(&pointer, sizeof pointer); }
  void add(int value) { put(&value, sizeof value); }
  void add(float value) { put(&value, sizeof value); }
  void add(bool value) { put(&value, sizeof value); }
  std::vector<void*> pointers();

 private:
  void put(const void* value, size_t bytes);
  std::vector<uint64_t> slots_;
};

// A loaded cubin. Immutable: launches from several threads are safe.
class Code {
 public:
  explicit Code(const std::string& cubin);
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code();

  // Fails if the cubin has no such kernel. `dynamic_bytes` of shared memory are what every launch
  // of it may ask for.
  Function function(const std::string& symbol, int dynamic_bytes = 0) const;
  // nullptr if the cubin has no such kernel.
  Function find(const std::string& symbol) const;

 private:
  Module module_ = nullptr;
};

// Keeps the code loaded for as long as the process lives: graphs of MLX may hold its kernels.
void keep_loaded(std::shared_ptr<const Code> code);

void launch(Function function, const LaunchSize& size, int dynamic_bytes, Stream stream,
            Parameters& parameters);

}  // namespace mlx_kd::devices::cuda
