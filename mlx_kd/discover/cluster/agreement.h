// Meetings at which a rank may have an error in place of what it was to give.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/discover/ranks/ranks.h"

namespace mlx_kd::discover {

// The run ends by an error that another rank reports.
struct ReportedElsewhere {
  int exit_code;
};

// What `mine` makes on each rank, for all of them. Where it throws an Error on some, the first of
// these throws it, its place named unless all have it, and the others ReportedElsewhere.
std::vector<std::string> meet_all(Ranks& ranks, bool paced,
                                  const std::function<std::string()>& mine);

// "rank 2 on HOST".
std::string name_of_rank(const Ranks& ranks, int rank);

}  // namespace mlx_kd::discover
