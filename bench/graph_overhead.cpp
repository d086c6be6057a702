// What one operation costs in a graph when its kernel is small: the winner of a run's first size,
// 40 independent calls in one eval, many times.
//
//   bench_graph_overhead RUN_DIR [ROUNDS]
//
// stdout: one JSON line, us of a call. `perf record -g` on it gives the shares in
// bench/results/graph_profile.json.
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "mlx_kd/archive/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/table.h"

namespace {

namespace mx = mlx::core;
using namespace mlx_kd;

constexpr int kCalls = 40, kSets = 5;

const spec::Candidate& winner_of(const archive::RunData& run) {
  if (!run.finish || run.finish->winners.empty())
    base::misuse("bench", "the run has no winner: run kd run first");
  const auto& id = run.finish->winners.front().candidate_id;
  return std::find_if(run.records.begin(), run.records.end(),
                      [&](const auto& record) { return record.candidate_id == id; })
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

std::vector<double> sample(const archive::RunData& run, int rounds) {
  const auto device = devices::open_device("cpu");
  const spec::Op& op = kernels::find_op(run.meta.op_name);
  const spec::Dims& dims = run.meta.sizes.front();
  const spec::Dtype dtype = spec::parse_dtype(run.meta.dtype);
  const spec::Candidate& candidate = winner_of(run);
  const auto program = device->load(device->compile(candidate, 60), candidate);
  devices::Call call{dims, {}, spec::variant_of(op, candidate).launch(dims, candidate.knobs)};
  for (const auto& input : op.runtime_inputs) call.params.push_back(input.default_value);
  std::vector<spec::Shape> shapes;
  for (const auto& port : op.outputs) shapes.push_back(port.shape(dims));
  const mx::Dtype type = dtype == spec::Dtype::float32   ? mx::float32
                         : dtype == spec::Dtype::float16 ? mx::float16
                                                         : mx::bfloat16;
  std::vector<std::vector<mx::array>> sets;
  for (int s = 0; s < kSets; ++s) sets.push_back(random_inputs(op, dims, type));
  std::vector<double> us;
  for (int r = 0; r < rounds; ++r) {
    std::vector<mx::array> outputs;
    const int64_t start = base::steady_ns();
    for (int i = 0; i < kCalls; ++i)
      for (auto& array : program->call(sets[static_cast<size_t>(i % kSets)], shapes, dtype, call))
        outputs.push_back(array);
    mx::eval(outputs);
    us.push_back(1e6 * base::seconds_since(start) / kCalls);
  }
  return us;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) base::misuse("bench", "usage: bench_graph_overhead RUN_DIR [ROUNDS]");
  const auto run = archive::read_run(argv[1]);
  std::vector<double> us = sample(run, argc > 2 ? std::atoi(argv[2]) : 20000);
  std::sort(us.begin(), us.end());
  std::cout << base::Json{{"op", run.meta.op_name},
                          {"dtype", run.meta.dtype},
                          {"shape", run.meta.sizes.front().json()},
                          {"median_us", us[us.size() / 2]},
                          {"p10_us", us[us.size() / 10]}}
                   .dump()
            << "\n";
  return 0;
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
