#include "mlx_kd/evaluate/kernel_timer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/evaluate/statistics.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int kCalibrationRounds = 5;

// One side of a pair: calls a sample such that it is long enough.
class Side {
 public:
  Side(const Timed& what, TimingBuffers& buffers, const Protocol& protocol)
      : what_(what), buffers_(buffers) {
    calibrate(protocol.sample_us);
    for (int i = 1; i < protocol.warmup; ++i) sample();
  }

  // us a call.
  double sample() {
    if (buffers_.accelerator()) return device_sample();
    buffers_.flush_if_cold();
    const int64_t start = base::steady_ns();
    for (int i = 0; i < calls_; ++i) {
      const auto& set = buffers_.next();
      what_.program->launch(set.inputs, set.outputs, what_.call);
    }
    return 1e6 * base::seconds_since(start) / calls_;
  }

 private:
  double device_sample() {
    if (!ready_)
      ready_ = buffers_.accelerator()->sample(*what_.program, what_.call, buffers_.next(calls_),
                                              buffers_.cold());
    return ready_->run() / calls_;
  }

  void calibrate(double sample_us) {
    const double most = buffers_.cold() ? static_cast<double>(buffers_.set_count()) : 1e6;
    for (int round = 0; round < kCalibrationRounds; ++round) {
      const double took = sample() * calls_;
      if (took >= sample_us || calls_ >= most) return;
      const double wanted = std::ceil(1.1 * calls_ * sample_us / std::max(took, 0.02));
      calls_ = static_cast<int>(std::min(wanted, most));
      ready_.reset();
    }
  }

  const Timed& what_;
  TimingBuffers& buffers_;
  int calls_ = 1;
  std::unique_ptr<devices::Accelerator::Sample> ready_;  // of `calls_` calls
};

void add_pair(Side& candidate, Side& incumbent, base::Random& random, KernelTimes& times) {
  const bool candidate_first = random.next() >> 63;
  const double first = candidate_first ? candidate.sample() : incumbent.sample();
  const double second = candidate_first ? incumbent.sample() : candidate.sample();
  const double mine = candidate_first ? first : second;
  times.us.push_back(mine);
  times.log_ratios.push_back(std::log(mine / (candidate_first ? second : first)));
}

KernelTimes collect(const Timed& candidate, const Timed* incumbent, TimingBuffers& buffers,
                    const Protocol& protocol, base::Random& random,
                    const std::function<bool(const KernelTimes&)>& more) {
  KernelTimes times;
  Side mine(candidate, buffers, protocol);
  if (!incumbent) {
    while (more(times)) times.us.push_back(mine.sample());
    return times;
  }
  Side theirs(*incumbent, buffers, protocol);
  while (more(times)) add_pair(mine, theirs, random, times);
  return times;
}

}  // namespace

bool wants_more(const std::vector<double>& log_ratios, const Protocol& protocol) {
  const auto pairs = static_cast<int>(log_ratios.size());
  if (pairs < protocol.reject_pairs) return true;
  const double best = *std::min_element(log_ratios.begin(), log_ratios.end());
  if (best > std::log(protocol.reject_factor)) return false;
  if (pairs < protocol.base_pairs) return true;
  if (best > std::log(protocol.late_factor)) return false;
  return pairs < protocol.better_pairs && median(log_ratios) < std::log(protocol.late_factor);
}

KernelTimes time_pairs(const Timed& candidate, const Timed* incumbent, TimingBuffers& buffers,
                       const Protocol& protocol, base::Random& random) {
  const auto more = [&](const KernelTimes& times) {
    if (!incumbent) return static_cast<int>(times.us.size()) < protocol.better_pairs;
    return wants_more(times.log_ratios, protocol);
  };
  KernelTimes times = collect(candidate, incumbent, buffers, protocol, random, more);
  times.rejected = incumbent && static_cast<int>(times.us.size()) < protocol.base_pairs;
  return times;
}

KernelTimes time_fixed(const Timed& candidate, const Timed* incumbent, int pairs,
                       TimingBuffers& buffers, const Protocol& protocol, base::Random& random) {
  const auto more = [&](const KernelTimes& times) {
    return static_cast<int>(times.us.size()) < pairs;
  };
  return collect(candidate, incumbent, buffers, protocol, random, more);
}

}  // namespace mlx_kd::evaluate
