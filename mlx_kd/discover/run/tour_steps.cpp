#include "mlx_kd/discover/run/tour_steps.h"

#include <map>

#include "mlx_kd/search/space/tours.h"

namespace mlx_kd::discover {

std::vector<std::vector<uint64_t>> tour_steps(search::Strategy& strategy,
                                              const std::vector<Visit>& visits) {
  std::vector<std::vector<uint64_t>> result;
  search::Tours* const tours = strategy.tours();
  if (!tours) return result;
  std::map<size_t, uint64_t> step_of;  // by point
  for (const Visit& visit : visits) step_of[visit.point] = visit.step;
  for (size_t tour = 0; tour < tours->count(); ++tour) {
    auto& steps = result.emplace_back();
    for (uint64_t position = 0; position < tours->size(); ++position)
      if (const auto found = step_of.find(tours->short_stop(tour, position));
          found != step_of.end())
        steps.push_back(found->second);
  }
  return result;
}

}  // namespace mlx_kd::discover
