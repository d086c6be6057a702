// What the operator contract costs where nothing older can be compared: a barrier between two
// stages of a kernel on the CPU, and the start of a table of 60 operators.
//
//   bench_contract
//
// stdout: one JSON line, each number the best of five. bench/contract.py runs it.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <limits>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cpu/kernel_code.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/runtime/pins/signature.h"

namespace {

using namespace mlx_kd;

constexpr int kRounds = 5, kCalls = 200, kStages = 1000;
constexpr size_t kOperators = 60;

template <class Work>
double best_of_rounds(const Work& seconds) {
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) best = std::min(best, seconds());
  return best;
}

// Each of two units adds 1 to what the other one wrote in the stage before: without a barrier the
// sums are wrong. A unit's numbers have a cache line of their own.
constexpr const char* kSource = R"(
struct kd_arguments {
  const void* inputs[16];
  void* outputs[8];
  void* scratch[4];
  long dims[16];
  double scalars[8];
  long strides[24][4];
  long stage;
};
extern "C" void mlx_kd_turns(const kd_arguments* a, long begin, long end) {
  int* const y = (int*)a->outputs[0];
  const long now = a->stage & 1;
  for (long unit = begin; unit < end; ++unit)
    y[(2 * unit + now) * 16] = y[(2 * (1 - unit) + 1 - now) * 16] + 1;
}
)";

spec::Candidate turns() {
  spec::Candidate candidate;
  candidate.op_name = "turns";
  candidate.variant = "stages";
  candidate.language = "cpp";
  candidate.source = kSource;
  candidate.func_name = "mlx_kd_turns";
  candidate.inputs_spec = base::Json::array();
  candidate.outputs_spec = {{{"name", "y"}, {"dtype", "int32"}}};
  candidate.template_params = candidate.knobs.json();
  candidate.launch_params = {{"launch_kind", "cpp_arguments"}};
  return candidate;
}

devices::Call call_of(int stages) {
  devices::Call call;
  call.outputs = {{{64}, spec::Dtype::int32}};
  call.updates = {-1};
  for (int i = 0; i < stages; ++i) {
    spec::Stage stage{"mlx_kd_turns"};
    stage.launch.grid[0] = 2;
    stage.launch.group[0] = 1;
    stage.launch.threads = 2;
    stage.index = i;
    call.stages.push_back(stage);
  }
  return call;
}

// us between two stages that run on two cores.
double barrier_us() {
  const auto device = devices::open_device("cpu");
  const devices::Artifact artifact = device->compile(turns(), 60);
  if (!artifact.ok) base::fail("bench", "the kernel does not compile: " + artifact.error);
  const devices::cpu::KernelCode code(artifact.path, turns());
  const devices::cpu::FlatCall call = code.flatten(call_of(kStages));
  return best_of_rounds([&] {
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kCalls; ++i) {
      alignas(64) int y[64] = {};
      void* const outputs[] = {y};
      const int64_t start = base::steady_ns();
      code.run(nullptr, outputs, call);
      least = std::min(least, base::seconds_since(start));
      if (y[16] != kStages || y[48] != kStages) base::fail("bench", "a stage ran too early");
    }
    return 1e6 * least / kStages;
  });
}

// ms until as many operators are made, checked, and known to the runtime.
double table_ms() {
  return best_of_rounds([] {
    const int64_t start = base::steady_ns();
    std::vector<spec::Op> ops;
    const auto& makers = kernels::op_makers();
    for (size_t i = 0; i < kOperators; ++i) ops.push_back(makers[i % makers.size()]());
    size_t readable = 0;
    for (const spec::Op& op : ops) {
      if (!spec::faults_of(op).empty()) base::fail("bench", "op '" + op.name + "' is faulty");
      readable += runtime::Signature(op).readable();
    }
    if (readable == 0) base::fail("bench", "no op can be read");
    return 1e3 * base::seconds_since(start);
  });
}

int measure() {
  const base::OrderedJson result = {{"barrier_us", barrier_us()},
                                    {"table_ms", table_ms()},
                                    {"operators", kOperators},
                                    {"operators_in_the_table", kernels::op_makers().size()}};
  std::cout << result.dump() << "\n";
  return 0;
}

}  // namespace

int main() try { return measure(); } catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
