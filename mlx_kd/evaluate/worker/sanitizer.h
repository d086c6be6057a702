// NVIDIA's compute-sanitizer round a worker: accesses of a kernel beyond its arrays, misaligned
// ones, and faults of the driver's calls.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::evaluate {

// The command in front of the worker's own: findings go to the file `log`.
std::vector<std::string> sanitizer_command(const std::string& program, const std::string& log);

// The first finding of a log and how many there are, or "".
std::string findings_of(const std::string& log);

}  // namespace mlx_kd::evaluate
