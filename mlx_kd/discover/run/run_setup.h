// What a run works with, made from its request: the same for one process and for each rank of many.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/run/candidate_space.h"
#include "mlx_kd/discover/run/run.h"
#include "mlx_kd/search/space/features.h"

namespace mlx_kd::discover {

// The parts refer to one another: it stays where it was made.
struct RunSetup {
  // Misuse where the request makes no sense; nothing is written.
  RunSetup(const RunRequest& request, Listener& listener);
  RunSetup(const RunSetup&) = delete;
  RunSetup& operator=(const RunSetup&) = delete;

  // Whether the limits of time and gain let the search go on after so many evaluations.
  bool goes_on(const RunRequest& request, uint64_t done) const;

  int64_t start_ns;
  const spec::Op& op;
  shapes::Sizes sizes;
  std::shared_ptr<const devices::Device> device;  // kernels are sought for it
  CandidateSpace space;
  search::Points points;
  search::Features features;
  std::vector<std::string> remarks;
  std::unique_ptr<search::Strategy> strategy;
  std::unique_ptr<evaluate::Evaluator> evaluator;
  archive::RunMeta meta;  // of the request
};

}  // namespace mlx_kd::discover
