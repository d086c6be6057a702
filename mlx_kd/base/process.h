// Running another program to its end (a compiler, a version query).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace mlx_kd::base {

struct ProcessResult {
  int exit_code = -1;      // as the program returned it; -1 if it did not return
  int signal = 0;          // what ended it, 0 if it returned
  bool timed_out = false;  // it was killed after the time limit
  bool started = false;    // false: the program could not be started (not found, not executable)
  std::string output;      // stdout and stderr together, the first max_output bytes
  bool ok() const { return started && !timed_out && signal == 0 && exit_code == 0; }
};

// What a program may take at most, in bytes; 0: as much as this process. Linux alone knows them.
struct ProcessLimits {
  int64_t memory = 0;  // address space
  int64_t file = 0;    // of each file that it writes
  // Of the time limit is taken what it was ready to run and others had the processors, up to nine
  // times the limit.
  bool waits_free = false;
};

// Spawns argv[0] (looked up in PATH) in a process group of its own, with no standard input and
// LC_ALL=C, waits at most timeout_s seconds, then kills the group; so too (timed_out) as soon as
// *cancelled is true. Thread-safe. Never throws for what the program does.
ProcessResult run_process(const std::vector<std::string>& argv, double timeout_s,
                          size_t max_output = 1 << 20, const std::atomic<bool>* cancelled = nullptr,
                          const ProcessLimits& limits = {});

}  // namespace mlx_kd::base
