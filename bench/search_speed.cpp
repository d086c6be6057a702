// What the search itself costs: enumeration, tours, and the strategy's own time an evaluation at
// 10^4 and 10^6 points, in CPU time of this thread.
#include <cmath>
#include <cstdio>
#include <ctime>

#include "mlx_kd/search/space/tours.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace {

using namespace mlx_kd;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

spec::Space cube(size_t knobs, int64_t values) {
  spec::Space space;
  for (size_t i = 0; i < knobs; ++i) {
    spec::Knob knob{"K" + std::to_string(i), {}};
    for (int64_t v = 1; v <= values; ++v) knob.values.push_back(v);
    space.knobs.push_back(knob);
  }
  return space;
}

double measured(const search::Points& points, size_t point) {
  double sum = 0;
  for (size_t knob = 0; knob < points.knobs(); ++knob)
    sum += std::abs(points.value_index(point, knob) - 3.0 - 0.5 * static_cast<double>(knob % 3));
  return 0.1 * sum + 0.02 * static_cast<double>(point % 7);
}

void walk(const search::Points& points, size_t budget) {
  const double start = cpu_seconds();
  const auto strategy = search::make_strategy("tours", points, {}, 0);
  double first = 0;
  for (size_t i = 0; i < budget; ++i) {
    for (size_t point : strategy->propose(1))
      strategy->observe({point, false, measured(points, point)});
    if (i + 1 == 8) first = cpu_seconds() - start;
  }
  const double all = cpu_seconds() - start;
  std::printf("%zu points, budget %zu: %.3f ms an evaluation (the first 8: %.1f ms together)\n",
              points.size(), budget, 1e3 * all / static_cast<double>(budget), 1e3 * first);
}

search::Points enumerated(const char* what, const spec::Space& space) {
  const double start = cpu_seconds();
  search::Points points = search::Points::enumerate(space);
  std::printf("%s: %.0f raw points, %zu kept, %.3f s\n", what, points.raw_size(), points.size(),
              cpu_seconds() - start);
  return points;
}

}  // namespace

int main() {
  const search::Points small = enumerated("10^4, no constraint", cube(4, 10));
  const search::Points million = enumerated("10^6, no constraint", cube(6, 10));
  spec::Space constrained = cube(8, 10);
  const auto small_product = [](const int64_t* v) { return v[0] * v[1] <= 12; };
  constrained.constraints = {{"K0 K1 <= 12", {"K0", "K1"}, small_product},
                             {"K2 K3 <= 12", {"K2", "K3"}, small_product},
                             {"K6 K7 <= 12", {"K6", "K7"}, small_product}};
  enumerated("10^8 with constraints", constrained);
  enumerated("10^12, sampled", cube(12, 10));
  const double start = cpu_seconds();
  const search::Features features(million);
  search::Tours tours(features, 4, 0);
  for (size_t tour = 0; tour < 4; ++tour) tours.short_stop(tour, 0);
  std::printf("4 tours of 10^6 points: %.2f s\n", cpu_seconds() - start);
  for (size_t budget : {8, 50, 200, 1000, 5000}) walk(small, budget);
  for (size_t budget : {8, 50, 200, 1000}) walk(million, budget);
}
