#include "mlx_kd/devices/cuda/driver/device_clock.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int kThreadLocalCapture = 1;
constexpr unsigned kAsNode = 1;  // CU_EVENT_RECORD_EXTERNAL: the event becomes a node of the graph

class OwnGraph {
 public:
  explicit OwnGraph(Graph graph) : graph_(graph) {}
  OwnGraph(const OwnGraph&) = delete;
  OwnGraph& operator=(const OwnGraph&) = delete;
  ~OwnGraph() { driver().graph_destroy(graph_); }
  operator Graph() const { return graph_; }

 private:
  Graph graph_;
};

// A capture that ends even where `record` throws.
Graph capture(Stream stream, const std::function<void()>& record) {
  check(driver().capture_begin(stream, kThreadLocalCapture), "recording a graph");
  Graph graph = nullptr;
  try {
    record();
  } catch (...) {
    driver().capture_end(stream, &graph);
    if (graph) driver().graph_destroy(graph);
    throw;
  }
  check(driver().capture_end(stream, &graph), "recording a graph");
  return graph;
}

}  // namespace

TimedGraph::TimedGraph(const std::function<void(Stream)>& record) {
  const OwnGraph graph(capture(stream_, [&] {
    check(driver().event_record(start_, stream_, kAsNode), "recording a time");
    record(stream_);
    check(driver().event_record(end_, stream_, kAsNode), "recording a time");
  }));
  check(driver().graph_instantiate(&graph_, graph, 0), "making a graph ready");
}

TimedGraph::~TimedGraph() {
  driver().graph_exec_destroy(graph_);
}

double TimedGraph::run(const std::function<void(Stream)>& before) const {
  if (before) before(stream_);
  check(driver().graph_launch(graph_, stream_), "starting a graph");
  check(driver().stream_wait(stream_), "running a graph");
  float ms = 0;
  check(driver().event_ms(&ms, start_, end_), "reading its clock");
  return 1e3 * static_cast<double>(ms);
}

}  // namespace mlx_kd::devices::cuda
