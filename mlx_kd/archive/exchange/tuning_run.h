// One of our runs as the tuning community reads it, and as a space to replay.
#pragma once

#include "mlx_kd/archive/exchange/tuning_cache.h"
#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// What the run measured, as a space: the knobs (and the variant, where there were several) with the
// values that occur, the objective as time in units of the first candidate's, the seconds that each
// evaluation took as its cost (in ms). A candidate measured twice counts once, with its last
// verdict. Misuse (room archive), naming origin, if nothing was measured.
TuningCache measured_space(const RunData& run, const std::string& origin);

// A T4 result file (the results format 1.0.0 that auto-tuners exchange): {schema_version, metadata,
// results: [{timestamp, configuration {variant, <knob>...}, objectives ["time"], times
// {compilation_time, validation, framework, search_algorithm, runtimes} in s, invalidity
// ("correct", "compile", "runtime", "correctness", "timeout"), correctness (1 or 0), measurements
// [{name: "time", value, unit: "us"}]}]}. Our runs do not tell single runtimes: the list holds
// their median. measurements is empty for a failure.
base::OrderedJson t4_results(const RunData& run);

// The run as a Kernel Tuner cache (tuning_cache.h lists its fields), one configuration per
// candidate, the last verdict of one that was measured twice. A time is the first candidate's
// kernel_us (geometric mean over the sizes) times exp(objective), in ms: what the paired ratios
// say, free of the machine's drift. compile_time, verification_time and framework_time are the
// seconds of compile, prove and time. read_tuning_cache of it gives the space that measured_space
// gives. Misuse (room archive), naming origin, if nothing was measured.
base::OrderedJson tuning_cache_json(const RunData& run, const std::string& origin);

}  // namespace mlx_kd::archive
