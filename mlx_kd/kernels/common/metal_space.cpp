#include "mlx_kd/kernels/common/metal_space.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels {
namespace {

using enum spec::KnobScale;
using enum spec::KnobRole;

}  // namespace

spec::Knob pack_knob() {
  return {"VEC", {4, 1, 2, 8}, log2, source, "elements a thread reads in one piece"};
}

spec::Knob fast_knob(const std::string& what) {
  return {"FAST", {0, 1}, choice, source, what, {"precise", "fast"}};
}

spec::Knob group_knob() {
  return {"THREADS",
          {256, 32, 64, 128, 192, 384, 512, 768, 1024},
          log2,
          launch,
          "threads of a threadgroup"};
}

spec::Launch launch_flat(int64_t threads, const spec::Setting& knobs) {
  spec::Launch result;
  const int64_t group = knobs.at("THREADS");
  result.grid[0] = std::max<int64_t>(1, divide_up(threads, group)) * group;
  result.group[0] = group;
  return result;
}

}  // namespace mlx_kd::kernels
