// Runs a kernel with barriers and an exchange among lanes on the executor, its threads as fibers,
// in all orders, and compares with what it must compute. Used by check_fibers_on_aarch64.sh: needs
// no compiler at run time and no MLX.
#include <cmath>
#include <cstdio>
#include <vector>

#include "mlx_kd/devices/simt/executor/executor.h"

namespace {

using namespace mlx_kd::devices::simt;

constexpr uint32_t kGroup = 256, kGroups = 64;
constexpr int kRounds = 10;

void add_lanes(unsigned active, const void* const* in, void* const* out) {
  double sum = 0;
  for (int l = 0; l < 32; ++l)
    if (active >> l & 1) sum += *static_cast<const double*>(in[l]);
  for (int l = 0; l < 32; ++l)
    if (active >> l & 1) *static_cast<double*>(out[l]) = sum;
}

// Passes values round the group; eight sums live across the barriers, in registers that a switch
// has to keep.
void thread(void* const* buffers, void* const*, const kd_thread* place) {
  const kd_runtime* run = runtime();
  auto* out = static_cast<double*>(buffers[0]);
  const unsigned t = place->index;
  auto* shared = static_cast<double*>(run->shared(0, kGroup * sizeof(double), 8));
  double sum[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  double value = t;
  for (int k = 0; k < kRounds; ++k) {
    shared[t] = value;
    run->barrier(0, 0, 2);
    value = shared[(t + 1) % kGroup];
    run->barrier(1, 0, 2);
    for (int i = 0; i < 8; ++i) sum[i] += value * (i + 1);
  }
  double lanes = 0;
  run->meet(2, 32, &value, &lanes, add_lanes);
  for (const double one : sum) lanes += one;
  out[place->position[0]] = lanes;
}

double expected(unsigned t) {
  double sum = 36, lanes = 0;
  for (int k = 1; k <= kRounds; ++k) sum += 36.0 * ((t + static_cast<unsigned>(k)) % kGroup);
  for (unsigned l = t / 32 * 32; l < t / 32 * 32 + 32; ++l) lanes += (l + kRounds) % kGroup;
  return sum + lanes;
}

size_t wrong_values(ThreadOrder order) {
  std::vector<double> out(kGroup * kGroups, NAN);
  LaunchOptions options;
  options.order = order;
  options.fibers = true;
  options.cores = 2;
  const LaunchReport report = launch({thread, nullptr}, {out.data()}, {}, {kGroup * kGroups, 1, 1},
                                     {kGroup, 1, 1}, options);
  size_t wrong = report.fault.empty() && report.divergent_barrier_site < 0 ? 0 : out.size();
  for (size_t i = 0; i < out.size(); ++i) wrong += out[i] != expected(i % kGroup);
  return wrong;
}

}  // namespace

int main() {
  size_t wrong = 0;
  for (const ThreadOrder order : {ThreadOrder::forward, ThreadOrder::reverse, ThreadOrder::random})
    wrong += wrong_values(order);
  std::printf("%zu wrong values of %u\n", wrong, 3 * kGroup * kGroups);
  return wrong != 0;
}
