// What one operation costs in a graph when its kernel is small: the winner of a run's first size
// (where nothing was faster than MLX, the kernel that the run timed best), 40 independent calls in
// one eval, many times, on the device of the run; and MLX's own operator in turn with it.
//
//   bench_graph_overhead RUN_DIR [ROUNDS]
//
// stdout: one JSON line, us of a call: until the evaluation is done, and of that to write it down.
// `perf record -g` on it gives the shares in bench/results/graph_profile.json.
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <tuple>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

namespace mx = mlx::core;
using namespace mlx_kd;

constexpr int kCalls = 40, kSets = 5;

const spec::Candidate& kernel_of(const archive::RunData& run) {
  if (run.records.empty()) base::misuse("bench", "the run has no record: run kd run first");
  const auto rank = [&](const archive::Record& record) {
    const bool is_winner = run.finish && !run.finish->winners.empty() &&
                           run.finish->winners.front().candidate_id == record.candidate_id;
    const bool timed = record.verdict.status == spec::Status::benchmarked;
    return std::make_tuple(!is_winner, !timed, record.verdict.objective);
  };
  return std::min_element(run.records.begin(), run.records.end(),
                          [&](const auto& a, const auto& b) { return rank(a) < rank(b); })
      ->candidate;
}

std::vector<mx::array> random_inputs(const spec::Op& op, const spec::Dims& dims, mx::Dtype dtype) {
  std::vector<mx::array> inputs;
  for (const auto& port : op.inputs) {
    const auto shape = port.shape(dims);
    inputs.push_back(mx::astype(mx::random::normal(mx::Shape(shape.begin(), shape.end())), dtype));
  }
  mx::eval(inputs);
  return inputs;
}

using Arrays = std::vector<mx::array>;
using Function = std::function<Arrays(const Arrays& inputs)>;

struct Times {
  std::vector<double> total, build;  // us of a call

  void sample(const Function& function, const std::vector<Arrays>& sets) {
    Arrays outputs;
    const int64_t start = base::steady_ns();
    for (int i = 0; i < kCalls; ++i)
      for (const auto& array : function(sets[static_cast<size_t>(i % kSets)]))
        outputs.push_back(array);
    build.push_back(1e6 * base::seconds_since(start) / kCalls);
    mx::eval(outputs);
    total.push_back(1e6 * base::seconds_since(start) / kCalls);
  }
  base::Json json() {
    for (auto* list : {&total, &build}) std::sort(list->begin(), list->end());
    return {{"median_us", total[total.size() / 2]},
            {"p10_us", total[total.size() / 10]},
            {"build_us", build[build.size() / 2]}};
  }
};

base::Json compare(const archive::RunData& run, int rounds) {
  const auto device = devices::open_device(run.meta.device);
  mx::set_default_device(device->accelerator() ? mx::Device::gpu : mx::Device::cpu);
  const spec::Op& op = kernels::find_op(run.meta.op_name);
  const spec::Dims& dims = run.meta.sizes.front();
  const spec::Dtype dtype = spec::parse_float_dtype(run.meta.dtype);
  const spec::Candidate& candidate = kernel_of(run);
  const auto program = device->load(device->compile(candidate, 60), candidate);
  const devices::Call call = devices::make_call(op, spec::variant_of(op, candidate), dtype, dims,
                                                candidate.knobs, spec::default_scalars(op));
  const mx::Stream stream = mx::default_stream(mx::default_device());
  std::vector<spec::Shape> shapes;
  for (const auto& port : op.outputs) shapes.push_back(port.shape(dims));
  std::vector<Arrays> sets;
  for (int s = 0; s < kSets; ++s)
    sets.push_back(random_inputs(op, dims, devices::mlx_dtype(dtype)));
  Times ours, mlx;
  for (int r = 0; r < rounds; ++r) {
    ours.sample([&](const Arrays& in) { return program->call(in, shapes, call); }, sets);
    mlx.sample([&](const Arrays& in) { return op.mlx(in, call.scalars, stream); }, sets);
  }
  return {{"op", op.name},
          {"dtype", run.meta.dtype},
          {"shape", dims.json()},
          {"device", run.meta.device},
          {"kernel", ours.json()},
          {"mlx", mlx.json()},
          {"candidate", candidate.id()}};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) base::misuse("bench", "usage: bench_graph_overhead RUN_DIR [ROUNDS]");
  const auto run = archive::read_run(argv[1]);
  std::cout << compare(run, argc > 2 ? std::max(1, std::atoi(argv[2])) : 20000).dump() << "\n";
  return 0;
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
