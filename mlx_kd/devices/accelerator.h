// A device with a memory and a clock of its own, as far as timing needs it. Thread-safe; failures
// of the device are errors (exit 1).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace mlx_kd::devices {

struct Call;
class Program;

// The arrays of one call, in the device's memory.
struct DeviceArrays {
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
};

// Bytes read plus bytes written per us, by the device's own copies.
struct CopyRates {
  double warm = 0;  // within its second-level cache
  double cold = 0;  // from and to memory
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;

  virtual void* allocate(int64_t bytes) const = 0;  // aligned to 256 bytes
  virtual void release(void* memory) const = 0;
  virtual void write(void* to, const void* from, int64_t bytes) const = 0;  // from the host
  virtual void read(void* to, const void* from, int64_t bytes) const = 0;   // to the host
  virtual void fill(void* memory, unsigned char byte, int64_t bytes) const = 0;

  // Drops what the caches hold, and waits for it.
  virtual void flush() const = 0;

  // Calls in a row, made ready once, so that the host costs a run nothing.
  class Sample {
   public:
    virtual ~Sample() = default;
    // us that the calls took together, by the device's clock; returns when they are done.
    virtual double run() const = 0;
  };
  // One call for each of `sets`. `cold`: every run starts with what flush() does, untimed. The
  // program comes from the same device and outlives the sample.
  virtual std::unique_ptr<Sample> sample(const Program& program, const Call& call,
                                         const std::vector<DeviceArrays>& sets,
                                         bool cold) const = 0;

  // Takes about 50 ms; best of several passes.
  virtual CopyRates copy_rates() const = 0;
};

}  // namespace mlx_kd::devices
