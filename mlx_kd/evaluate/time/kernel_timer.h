// Times in `kernel` mode: the kernel's own time, called on raw memory; by the host's clock, or by
// the device's where it has one (devices/accelerator.h).
#pragma once

#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/time/timing_buffers.h"

namespace mlx_kd::evaluate {

// One kernel at one size.
struct Timed {
  const devices::Program* program;
  devices::Call call;
};

struct KernelTimes {
  std::vector<double> us;          // of a call, one entry per sample of the candidate
  std::vector<double> log_ratios;  // log(candidate / incumbent), one entry a pair
  bool rejected = false;           // stopped early: worse than the incumbent beyond doubt
};

// `incumbent` null: samples of the candidate alone, slow_pairs of one that is slow. Pairs lie next
// to each other in time, in random order. Stops early only to reject; a candidate that may be the
// better gets more pairs.
KernelTimes time_pairs(const Timed& candidate, const Timed* incumbent, TimingBuffers& buffers,
                       const Protocol& protocol, base::Random& random);

// Exactly `pairs` of them.
KernelTimes time_fixed(const Timed& candidate, const Timed* incumbent, int pairs,
                       TimingBuffers& buffers, const Protocol& protocol, base::Random& random);

// Pairs in which the candidate was the faster over all sizes: entry i of each size makes a pair,
// and the mean of their log_ratios decides. Samples of equal length.
int pairs_won(const std::vector<KernelTimes>& sizes);

// Whether more pairs are wanted after those seen: the whole of the stopping rule.
bool wants_more(const std::vector<double>& log_ratios, const Protocol& protocol);

}  // namespace mlx_kd::evaluate
