// Prints walks of every strategy on a made-up space, with every bit of the expected gains: what
// must be the same on all machines.
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/strategy/strategy.h"

using namespace mlx_kd;

static spec::Space space() {
  spec::Space space;
  space.knobs = {{"X", {16, 32, 48, 64, 80, 96, 112, 128}, spec::KnobScale::log2},
                 {"Y", {1, 2, 4, 8, 16}, spec::KnobScale::log2},
                 {"Z", {0, 1, 2, 3, 4, 5, 6}},
                 {"METHOD", {0, 1, 2}, spec::KnobScale::choice}};
  space.constraints = {
      {"X Y <= 1024", {"X", "Y"}, [](const int64_t* v) { return v[0] * v[1] <= 1024; }}};
  return space;
}

static search::Observation measure(const search::Points& points, size_t point) {
  double value = 0.01 * base::Random(point).uniform();
  for (size_t knob = 0; knob < points.knobs(); ++knob) {
    const double x = points.value_index(point, knob) - 2.0;
    value += 0.1 * x * x;
  }
  return {point, point % 11 == 3, value};
}

int main() {
  const search::Points points = search::Points::enumerate(space());
  for (const std::string& name : search::strategy_names())
    for (uint64_t seed = 0; seed < 5; ++seed) {
      const auto strategy = search::make_strategy(name, points, {}, seed);
      for (int i = 0; i < 80; ++i)
        for (size_t point : strategy->propose(1 + i % 5)) {
          const double gain = strategy->expected_gain().value_or(-1);
          uint64_t bits = 0;
          std::memcpy(&bits, &gain, sizeof bits);
          std::printf("%s %" PRIu64 " %zu %016" PRIx64 "\n", name.c_str(), seed, point, bits);
          strategy->observe(measure(points, point));
        }
    }
}
