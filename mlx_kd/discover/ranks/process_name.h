// Which process on which machine a rank is.
#pragma once

#include <string>

#include "mlx_kd/base/json.h"

namespace mlx_kd::discover {

struct ProcessName {
  std::string host;     // its name, for people
  std::string machine;  // the same for all processes of a machine since it was started
  std::string space;    // in which pid counts; empty: none that another process could be sure of
  long pid = 0;
  std::string started;  // in the machine's own unit; empty where it does not say
};

ProcessName own_process();
base::Json to_json(const ProcessName& name);
// Misuse (room discover) if a field is missing or of another type.
ProcessName process_from_json(const base::Json& value);

// Ends (SIGKILL) a process of this machine that does not answer any more, so that what started it
// can continue; nothing where it is not certain that it is that one.
void end_silent(const ProcessName& name);

}  // namespace mlx_kd::discover
