// The arrays of one size that are timed: several sets of inputs and outputs.
#pragma once

#include <cstddef>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/evaluate/time/bandwidth.h"

namespace mlx_kd::evaluate {

// In the memory of the device. Warm: the sets together fill at most half the L2 and rotate from
// call to call. Cold: as many sets as a sample has calls, all flushed before it. One thread at a
// time.
class TimingBuffers {
 public:
  using Set = devices::DeviceArrays;

  // Inputs are copied from the case of that size (repeated if its batch is smaller). An output that
  // updates an input is the input's memory. `accelerator`: of the device, null where its memory is
  // the host's.
  TimingBuffers(const spec::Op& op, spec::Dtype t, const spec::Dims& dims, const Case& c,
                const std::byte* memory, int64_t l2_bytes, const Bandwidth& bandwidth,
                const Protocol& protocol, const devices::Accelerator* accelerator);
  TimingBuffers(const TimingBuffers&) = delete;
  TimingBuffers& operator=(const TimingBuffers&) = delete;
  ~TimingBuffers();

  bool cold() const { return cold_; }
  const devices::Accelerator* accelerator() const { return accelerator_; }
  size_t set_count() const { return sets_.size(); }
  // The next set in rotation.
  const Set& next() { return sets_[turn_++ % sets_.size()]; }
  const Set& set(size_t index) const { return sets_[index]; }
  // The next sets, one per call.
  std::vector<Set> next(int calls);
  // Before a cold sample on the host: the sets that its calls get. Nothing to do for warm ones.
  void flush_if_cold(int calls) const;
  // Overwrites the inputs of the first set with another case of the same or a smaller size.
  void load(const Case& c, const std::byte* memory, size_t set);
  // Fills the outputs of a set with a byte, except those that update an input; reads the first
  // bytes of outputs, as many as are given.
  void poison(size_t set, unsigned char byte);
  std::vector<std::vector<std::byte>> read(size_t set, const std::vector<int64_t>& bytes) const;

 private:
  void tile(void* to, int64_t bytes, const std::byte* source, int64_t source_bytes) const;

  const devices::Accelerator* accelerator_;
  std::vector<int64_t> input_bytes_, output_bytes_;
  std::vector<int> updates_;  // per output: the input that it updates, or -1
  bool cold_;
  std::byte* memory_ = nullptr;
  int64_t bytes_ = 0, set_bytes_ = 0;
  std::vector<Set> sets_;
  size_t turn_ = 0;
};

}  // namespace mlx_kd::evaluate
