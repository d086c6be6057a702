// Work that is recorded once and run often, timed by the GPU: a CUDA graph whose first and last
// nodes note the time, so that the host and the start of the graph count for nothing.
#pragma once

#include <functional>

#include "mlx_kd/devices/cuda/driver/gpu.h"

namespace mlx_kd::devices::cuda {

class TimedGraph {
 public:
  // `record` queues the work on the stream it is given.
  explicit TimedGraph(const std::function<void(Stream)>& record);
  TimedGraph(const TimedGraph&) = delete;
  TimedGraph& operator=(const TimedGraph&) = delete;
  ~TimedGraph();

  // us of the work; returns when it is done. `before`, if given, queues work that is not timed.
  double run(const std::function<void(Stream)>& before = {}) const;

 private:
  OwnStream stream_;
  OwnEvent start_, end_;
  GraphExec graph_ = nullptr;
};

}  // namespace mlx_kd::devices::cuda
