// Processes of the system, and ending those that somebody else has started. On Linux; elsewhere
// nothing is found.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace mlx_kd::base {

// What /proc/PID/stat says of a process behind its name: its state first (proc(5) counts that as
// field 3). Empty if there is none.
std::vector<std::string> stat_fields(pid_t pid);

// From now on whatever this process's descendants start stays its descendant, sessions of their own
// included: who loses its parent gets this process for one.
void keep_descendants();

// Kills all descendants of this process and waits for them.
void end_descendants();

// Kills every process of this user whose environment began with `entry` ("NAME=value"): a process
// that was started with it, and all that were forked from it.
void end_processes_with(const std::string& entry);

}  // namespace mlx_kd::base
