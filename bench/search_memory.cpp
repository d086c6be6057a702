// What a search over 10^6 points holds in memory: enumeration, graph, tours, a walk of 200.
//
//   bench_search_memory [file]
//
// Writes {"date", "kd_version", "points", "knobs", "start_mib", "stages": [{"stage",
// "resident_mib", "bytes_a_point"}], "peak_mib"} to the file, or stdout: after each stage the
// resident memory, and how many bytes a point it has grown by since the start; the peak is that of
// the whole process.
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/search/space/tours.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace {

using namespace mlx_kd;

constexpr size_t kKnobs = 6, kBudget = 200;
constexpr int64_t kValues = 10;
constexpr double kMib = 1 << 20;

double resident_mib() {
  size_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / kMib;
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / kMib;
}

spec::Space cube() {
  spec::Space space;
  for (size_t i = 0; i < kKnobs; ++i) {
    spec::Knob knob{"K" + std::to_string(i), {}};
    for (int64_t v = 1; v <= kValues; ++v) knob.values.push_back(v);
    space.knobs.push_back(knob);
  }
  return space;
}

double measured(const search::Points& points, size_t point) {
  double sum = 0;
  for (size_t knob = 0; knob < points.knobs(); ++knob)
    sum += std::abs(points.value_index(point, knob) - 3.5);
  return 0.1 * sum + 0.02 * static_cast<double>(point % 7);
}

class Stages {
 public:
  void done(const std::string& stage, size_t points) {
    const double now = resident_mib();
    list_.push_back({{"stage", stage},
                     {"resident_mib", now},
                     {"bytes_a_point", (now - start_) * kMib / static_cast<double>(points)}});
  }
  double start() const { return start_; }
  const base::OrderedJson& list() const { return list_; }

 private:
  double start_ = resident_mib();
  base::OrderedJson list_ = base::OrderedJson::array();
};

base::OrderedJson measure() {
  Stages stages;
  const search::Points points = search::Points::enumerate(cube());
  stages.done("enumerated", points.size());
  const auto strategy = search::make_strategy("tours", points, {}, 0);
  for (size_t i = 0; i < kBudget; ++i)
    for (size_t point : strategy->propose(1))
      strategy->observe({point, false, measured(points, point)});
  stages.done("walk of 200, with its graph and long tours", points.size());
  for (size_t tour = 0; tour < strategy->tours()->count(); ++tour)
    strategy->tours()->short_stop(tour, 0);
  stages.done("all Gray orders built, as the pictures of a report ask", points.size());
  return {{"date", base::iso_time_now().substr(0, 10)},
          {"kd_version", base::version()},
          {"points", points.size()},
          {"knobs", kKnobs},
          {"start_mib", stages.start()},
          {"stages", stages.list()},
          {"peak_mib", peak_mib()}};
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string text = measure().dump(1) + "\n";
  if (argc > 1)
    base::write_file_atomically(argv[1], text, "bench");
  else
    std::fputs(text.c_str(), stdout);
} catch (const mlx_kd::base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
