// Reads Kernel Tuner caches: every configuration of a kernel as somebody measured it.
//
// A cache is JSON, possibly gzipped (told by its first bytes): {device_name, kernel_name,
// objective: "time", tune_params_keys: [name...], tune_params: {name: [value...]},
// cache: {"16,1,...": {<name>: value..., time, times: [..], compile_time, framework_time,
// strategy_time, verification_time}}}, times in ms. A configuration that failed has a string for
// its time and may lack times. Unknown keys are ignored.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/spec/space.h"

namespace mlx_kd::archive {

struct TuningCache {
  std::string device, kernel;
  // Parameters in the file's order, no constraints. Integers count as sizes (log2) if all are
  // positive and the largest is at least 4 times the least, else as linear; other numbers are as
  // their place in ascending order, other values as choices, both labelled.
  spec::Space space;
  std::vector<std::vector<uint8_t>> points;  // value indices, each point once
  std::vector<double> times;                 // ms, positive; NaN if it failed
  std::vector<std::vector<double>> runs;     // ms: the single times of a point; none if it failed
  std::vector<double> costs;                 // ms: compile, framework, strategy, verification, runs
};

// Misuse (room archive), naming the file and what is wrong in it: not readable, truncated, a field
// missing or of another type, another objective, a time that is not positive, a value that the
// parameter does not list, a configuration twice, no configuration or none that is valid.
TuningCache read_tuning_cache(const std::filesystem::path& path);

}  // namespace mlx_kd::archive
