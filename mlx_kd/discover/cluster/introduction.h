// What ranks tell one another before they begin, and whether they belong together.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/discover/ranks/process_name.h"
#include "mlx_kd/discover/run/run_setup.h"

namespace mlx_kd::discover {

struct Introduction {
  base::Json alike;         // {what: text}: the same on all ranks
  base::Json device;        // as a pin's key and target: ranks of one device share one search
  base::Json device_alike;  // {what: text}: the same on all ranks of one device
  uint64_t budget = 0, points = 0;
};

Introduction introduction_of(const RunRequest& request, const RunSetup& setup);
std::string to_text(const Introduction& introduction);
Introduction introduction_from(const std::string& text);

// The ranks of one device, in order. The first of them measures the finals.
struct Kind {
  base::Json device;
  std::string tag;  // 8 hex digits of the device, for names of folders
  std::vector<int> ranks;
};

// By the lowest rank. Misuse (room discover) where ranks do not belong together, naming who differs
// and in what, or where there are more ranks of a device than there is to do.
std::vector<Kind> kinds_of(const std::vector<Introduction>& introductions,
                           const std::vector<ProcessName>& processes);

}  // namespace mlx_kd::discover
