#include "mlx_kd/evaluate/time/kernel_timer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/evaluate/time/statistics.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int kCalibrationRounds = 5;

// Of a sample whose calls the other, faster side asked for.
constexpr double kLongestSampleUs = 20e3;

// One side of a pair: calls a sample such that it is long enough.
class Side {
 public:
  Side(const Timed& what, TimingBuffers& buffers, const Protocol& protocol)
      : what_(what), buffers_(buffers) {
    calibrate(protocol.sample_us);
    for (int i = 1; i < protocol.warmup; ++i) sample();
  }

  int calls() const { return calls_; }
  double call_us() const { return call_us_; }
  void set_calls(int calls) {
    if (calls != calls_) ready_.reset();
    calls_ = calls;
  }

  // us per call.
  double sample() {
    if (buffers_.accelerator()) return device_sample();
    buffers_.flush_if_cold(calls_);
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
      call_us_ = sample();
      const double took = call_us_ * calls_;
      if (took >= sample_us || calls_ >= most) return;
      const double wanted = std::ceil(1.1 * calls_ * sample_us / std::max(took, 0.02));
      calls_ = static_cast<int>(std::min(wanted, most));
      ready_.reset();
    }
  }

  const Timed& what_;
  TimingBuffers& buffers_;
  int calls_ = 1;
  double call_us_ = 0;                                   // as the calibration saw it last
  std::unique_ptr<devices::Accelerator::Sample> ready_;  // of `calls_` calls
};

// The first call of a sample wakes threads and warms what the rest finds warm. Sides that share it
// among different numbers of calls differ where their kernels do not, in every pair alike.
void share_calls(Side& mine, Side& theirs) {
  const auto [fewer, more] = std::minmax({mine.calls(), theirs.calls()});
  const double slower_us = std::max(mine.call_us(), theirs.call_us());
  const auto most = static_cast<int>(std::min(kLongestSampleUs / std::max(slower_us, 1e-3), 1e6));
  const int calls = std::clamp(more, fewer, std::max(fewer, most));
  mine.set_calls(calls);
  theirs.set_calls(calls);
}

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
  share_calls(mine, theirs);
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

int pairs_won(const std::vector<KernelTimes>& sizes) {
  if (sizes.empty()) return 0;
  int won = 0;
  for (size_t pair = 0; pair < sizes.front().log_ratios.size(); ++pair) {
    double sum = 0;
    for (const KernelTimes& size : sizes) sum += size.log_ratios.at(pair);
    won += sum < 0;
  }
  return won;
}

KernelTimes time_pairs(const Timed& candidate, const Timed* incumbent, TimingBuffers& buffers,
                       const Protocol& protocol, base::Random& random) {
  const auto more = [&](const KernelTimes& times) {
    if (incumbent) return wants_more(times.log_ratios, protocol);
    const bool is_slow = !times.us.empty() && times.us.front() > 1e3 * protocol.slow_call_ms;
    return static_cast<int>(times.us.size()) <
           (is_slow ? protocol.slow_pairs : protocol.better_pairs);
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
