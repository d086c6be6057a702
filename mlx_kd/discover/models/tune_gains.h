// What the kernels of searches gain over the default kernel.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "mlx_kd/packs/pack.h"
#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::discover {

// Where no trial in the model decides (tune_trial.h), a default kernel gives way only to one that
// was this many times as fast where both were timed in pairs. Less is what the winner of many tries
// has by luck, and what differs between a kernel that runs alone and one inside a model.
inline constexpr double kLeastGain = 1.05;
// What such a trial is given.
inline constexpr double kLeastTried = 1.01;

// By kernel and size; of runs whose first candidate is the default kernel.
class TuneGains {
 public:
  // Those of a run directory.
  void read(const std::filesystem::path& run);
  // Whether the kernel is so many times as fast at a size: true where nothing was timed.
  bool is_enough(double least_gain, const std::string& candidate_id, const spec::Dims& size) const;
  // Takes out the entries whose kernels are not.
  void keep_gainers(double least_gain, packs::Pack& pack) const;

 private:
  std::map<std::pair<std::string, std::string>, double> log_ratios_;  // to the default
};

}  // namespace mlx_kd::discover
