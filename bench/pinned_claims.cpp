// Whether pins keep in a user's process what their run claimed: each entry of a pack that this
// machine serves, called through the public functions in a process of its own.
//
//   bench_pinned_claims PACK > bench/results/pinned_claims.json
//
// `us`: of the pinned operator alone, as many calls an eval as in a claim, median of 201 samples;
// the claim says median, 10th and 90th percentile. `now`: the speed-up in pairs with MLX at its
// best, timed as a claim is; within_what_they_expect counts those that lie in what the claim
// expects of another process. The 95 % intervals of two processes tell the noise within each, not
// that between them.
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>
#include <mlx/version.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <map>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/evaluate/protocol.h"
#include "mlx_kd/evaluate/time/graph_timer.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/state/settings.h"
#include "mlx_kd/runtime/state/stats.h"

namespace {

namespace mx = mlx::core;
using namespace mlx_kd;
using evaluate::Arrays;
using evaluate::Function;

// Normal numbers, where a claim's task keeps them.
struct Inputs {
  Inputs(const spec::Op& op, const spec::Dims& dims, spec::Dtype dtype) {
    for (const auto& port : op.inputs) {
      const mx::array made = mx::astype(mx::random::normal(devices::mlx_shape(port.shape(dims))),
                                        devices::mlx_dtype(dtype));
      mx::eval(made);
      const auto offset = static_cast<int64_t>(memory.size());
      memory.resize(memory.size() + made.nbytes());
      std::memcpy(memory.data() + offset, made.data<char>(), made.nbytes());
      as_case.inputs.push_back({offset, static_cast<int64_t>(made.nbytes())});
    }
  }
  evaluate::Case as_case;
  std::vector<std::byte> memory;
};

Arrays one(mx::array y) {
  Arrays result;
  result.push_back(std::move(y));
  return result;
}

template <class Pair>
Arrays both(Pair made) {
  Arrays result;
  result.push_back(std::move(std::get<0>(made)));
  result.push_back(std::move(std::get<1>(made)));
  return result;
}

// What a user calls.
Function public_form(const std::string& op) {
  static const std::map<std::string, Function> forms = {
      {"rmsnorm", [](const Arrays& in) { return one(runtime::rmsnorm(in[0], in[1])); }},
      {"rmsnorm_residual",
       [](const Arrays& in) { return both(runtime::rmsnorm_residual(in[0], in[1], in[2])); }},
      {"swiglu", [](const Arrays& in) { return one(runtime::swiglu(in[0], in[1])); }},
      {"rope", [](const Arrays& in) {
         return both(runtime::rope_concat_qk_decode_pos(in[0], in[1], in[2], in[3], in[4], in[5]));
       }}};
  return forms.at(op);
}

struct Now {
  double us;
  evaluate::GraphPairs pairs;
};

Now measure(const packs::Entry& entry, const spec::Op& op, const spec::Dims& dims,
            const devices::Device& device) {
  const evaluate::Protocol protocol;
  base::Random random(5);
  const auto dtype = spec::parse_float_dtype(entry.key.dtype);
  const Inputs inputs(op, dims, dtype);
  evaluate::GraphTimer timer(op, dtype, dims, inputs.as_case, inputs.memory.data(),
                             device.id().traits.l2_bytes, protocol, nullptr);
  const Function pinned = public_form(op.name);
  const evaluate::Baseline mlx =
      evaluate::mlx_at_its_best(op, spec::default_scalars(op), timer, protocol, random);
  std::vector<double> us;
  for (int i = 0; i < protocol.most_claim_pairs; ++i)
    us.push_back(timer.sample(pinned, mlx.plan.calls));
  return {evaluate::median(us),
          evaluate::time_graph_pairs(timer, pinned, mlx.function, {mlx.plan.calls, mlx.plan.calls},
                                     mlx.plan.pairs, random)};
}

base::OrderedJson row_of(const packs::Entry& entry, const std::string& pack) {
  runtime::enable(pack);
  const auto device = devices::open_device("cpu");
  const spec::Op& op = kernels::find_op(entry.key.op_name);
  const spec::Dims dims = discover::size_of(entry, op);
  const Now now = measure(entry, op, dims, *device);
  const runtime::Stats stats = runtime::stats();
  if (stats.hits == 0 || stats.hits != stats.calls)
    base::fail("bench", "not every call of " + packs::title(entry) + " hit its pin");
  const auto speedup = evaluate::bootstrap_ratio(now.pairs.log_ratios, 2000, 7);
  const spec::Metrics& found = entry.metrics;
  return {{"op", op.name},
          {"dtype", entry.key.dtype},
          {"shape", dims.text()},
          {"claimed_us", {found.latency_us, found.p10_us, found.p90_us}},
          {"us", now.us},
          {"claimed", {found.speedup_vs_ref, found.speedup_lo, found.speedup_hi}},
          {"expected", {found.expect_lo, found.expect_hi}},
          {"now", {speedup.middle, speedup.lo, speedup.hi}}};
}

// The row, made in a process of its own; it reads its own copy of the pack.
base::OrderedJson row_of_own_process(const packs::Entry& entry, const std::string& pack) {
  int ends[2];
  if (pipe(ends) != 0) base::fail("bench", "no pipe: close some files");
  const pid_t child = fork();
  if (child == 0) {
    const std::string text = row_of(entry, pack).dump();
    const bool written = write(ends[1], text.data(), text.size()) == ssize_t(text.size());
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, size_t(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) base::fail("bench", packs::title(entry) + " could not be measured");
  return base::OrderedJson::parse(text);
}

base::OrderedJson run(const std::string& pack) {
  base::OrderedJson rows = base::OrderedJson::array();
  int as_fast = 0, expecting = 0, within = 0;
  std::vector<double> of_us, of_speedup;
  for (const packs::Entry& entry : packs::read_pack(pack).entries) {
    if (entry.language != "cpp") continue;
    rows.push_back(row_of_own_process(entry, pack));
    const double us = rows.back()["us"];
    as_fast += us <= entry.metrics.p90_us;
    of_us.push_back(us / entry.metrics.latency_us);
    of_speedup.push_back(rows.back()["now"][0].get<double>() / entry.metrics.speedup_vs_ref);
    const double now = rows.back()["now"][0];
    expecting += std::isfinite(entry.metrics.expect_lo);
    within += entry.metrics.expect_lo <= now && now <= entry.metrics.expect_hi;
    std::fprintf(stderr, "%s\n", rows.back().dump().c_str());
  }
  const auto spread = [](const std::vector<double>& values) -> base::OrderedJson {
    return {{"median", evaluate::median(values)},
            {"p10", evaluate::percentile(values, 0.1)},
            {"p90", evaluate::percentile(values, 0.9)}};
  };
  return {{"what", "pinned operators in processes of their own, beside what their run claimed"},
          {"date", base::iso_time_now()},
          {"machine", packs::read_pack(pack).entries.front().key.device_name},
          {"mlx_version", mx::version()},
          {"entries", rows.size()},
          {"within_p90_of_the_claim", as_fast},
          {"that_expect_an_interval", expecting},
          {"within_what_they_expect", within},
          {"us_over_claimed", spread(of_us)},
          {"speedup_over_claimed", spread(of_speedup)},
          {"rows", rows}};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) base::misuse("bench", "usage: bench_pinned_claims PACK");
  std::cout << run(argv[1]).dump(1) << "\n";
  return 0;
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
