#include "mlx_kd/discover/cluster/agreement.h"

#include <algorithm>
#include <optional>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

constexpr char kGiven = '+', kFailed = '-';  // what a rank's bytes begin with

}  // namespace

std::string name_of_rank(const Ranks& ranks, int rank) {
  return "rank " + std::to_string(rank) + " on " +
         ranks.processes().at(static_cast<size_t>(rank)).host;
}

std::vector<std::string> meet_all(Ranks& ranks, bool paced,
                                  const std::function<std::string()>& mine) {
  std::string bytes;
  std::optional<base::Error> error;
  try {
    bytes = kGiven + mine();
  } catch (const base::Error& caught) {
    error = caught;
    bytes = kFailed + std::to_string(caught.exit_code());
  }
  std::vector<std::string> parts = ranks.meet(bytes, paced);
  const auto is_failed = [](const std::string& part) { return part.front() == kFailed; };
  const auto first = std::find_if(parts.begin(), parts.end(), is_failed);
  if (first == parts.end()) {
    for (std::string& part : parts) part.erase(0, 1);
    return parts;
  }
  if (first - parts.begin() != ranks.rank()) throw ReportedElsewhere{std::stoi(first->substr(1))};
  if (std::all_of(parts.begin(), parts.end(), is_failed)) throw *error;
  throw base::Error(std::string(error->what()) + " (" + name_of_rank(ranks, ranks.rank()) + ")",
                    error->exit_code());
}

}  // namespace mlx_kd::discover
