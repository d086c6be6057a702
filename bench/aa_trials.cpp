// How often is a speed-up claimed that is not there, and how often is one of 5 % found?
//
//   bench_aa_trials [trials = 1000] [file = bench/results/aa_trials.json] [processes = 0] [claims]
//
// With processes the claims are those of several: so many processes measure both, then each trial
// takes as many of them as a claim does, at random, and their interval by Student's t. In these 10
// % more work are to be found, one call in ten; with `long` as the claims those of `--claims long`,
// of 21 processes, which are to find 5 %.
//
// Each trial is what a claim is: pairs of samples in `graph` mode on the CPU device, as many and as
// long as the protocol says, then the interval. A kernel runs against itself, and against itself
// with one call in twenty more; the two kinds of trials alternate, so that both see the same
// weather. Exit 1 if the goals (at most 6.4 % claimed, at least 90 % found) are missed.
//
// File: {"date", "kd_version", "mlx_version", "device", "cores", "load", "protocol", "op", "dims",
// "dtype", "calls", "pairs", "trials", "same": {"claimed", "ratio", "spread"},
// "five_percent_more_work": {"found", "ratio"}, "goals_met"}.
#include <mlx/device.h>
#include <mlx/version.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluators/verify_candidates.h"
#include "mlx_kd/evaluate/proof/references.h"
#include "mlx_kd/evaluate/time/graph_timer.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/evaluate/worker/shared_memory.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

using namespace mlx_kd;

constexpr int kWorkPercent = 105, kWorkPercentOfProcesses = 110;
constexpr int kProcessesOfLongClaims = 21;
constexpr double kMostClaimed = 0.064, kMostClaimedOfProcesses = 0.05, kLeastFound = 0.90;

struct Tally {
  int claimed = 0;
  std::vector<double> ratios, spreads;
};

// The default kernel of an op at one size, ready to be called.
class Subject {
 public:
  Subject(const spec::Op& op, spec::Dtype dtype, const spec::Dims& dims)
      : op_(op),
        dtype_(dtype),
        dims_(dims),
        plan_(evaluate::plan_cases(op, dtype, {dims}, spec::default_scalars(op), protocol_)),
        memory_(evaluate::SharedMemory::create(plan_.bytes)) {
    evaluate::prepare_case(op, dtype, plan_.cases[0], protocol_, memory_.map(true));
    const auto candidate = evaluate::sample_candidates(op, device_->languages(),
                                                       device_->id().traits, dtype, dims, 0, 0)
                               .at(0);
    const auto artifact = device_->compile(candidate, 60);
    if (!artifact.ok) base::fail("bench", artifact.error);
    program_ = device_->load(artifact, candidate);
    call_ = devices::make_call(op, spec::variant_of(op, candidate), dtype, dims, candidate.knobs,
                               spec::default_scalars(op));
  }

  evaluate::GraphTimer timer() const {
    return {op_,
            dtype_,
            dims_,
            plan_.cases[0],
            memory_.data(),
            device_->id().traits.l2_bytes,
            protocol_,
            device_->accelerator()};
  }
  evaluate::Function function() const {
    std::vector<spec::Shape> shapes;
    for (const auto& port : op_.outputs) shapes.push_back(port.shape(dims_));
    return [this, shapes](const evaluate::Arrays& inputs) {
      return program_->call(inputs, shapes, call_);
    };
  }
  const evaluate::Protocol& protocol() const { return protocol_; }
  const spec::DeviceId& device() const { return device_->id(); }

 private:
  const spec::Op& op_;
  spec::Dtype dtype_;
  spec::Dims dims_;
  evaluate::Protocol protocol_;
  evaluate::CasePlan plan_;
  evaluate::SharedMemory memory_;
  std::shared_ptr<const devices::Device> device_ = devices::open_device("cpu");
  std::shared_ptr<devices::Program> program_;
  devices::Call call_;
};

double spread(const std::vector<double>& logs) {
  return std::exp(evaluate::percentile(logs, 0.9) - evaluate::percentile(logs, 0.1));
}

void one_trial(evaluate::GraphTimer& timer, const evaluate::Function& kernel,
               evaluate::GraphCalls calls, int pairs, const evaluate::Protocol& protocol,
               base::Random& random, Tally& tally) {
  const auto times = evaluate::time_graph_pairs(timer, kernel, kernel, calls, pairs, random);
  const auto interval =
      evaluate::bootstrap_ratio(times.log_ratios, protocol.bootstrap_resamples, random.next());
  tally.claimed += interval.lo > 1;
  tally.ratios.push_back(interval.middle);
  tally.spreads.push_back(spread(times.log_ratios));
}

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : -1;
}

spec::Dims dims_of(const spec::Op& op) {
  return spec::complete(op, {{"rows", 1}, {"D", 4096}});
}

// What one process sees: the medians of log ratios with as much work, and with more.
struct Seen {
  double same, more;
};

Seen see(int work_percent) {
  mlx::core::set_default_device(mlx::core::Device::cpu);
  const spec::Op& op = kernels::find_op("rmsnorm_residual");
  const Subject subject(op, spec::Dtype::float32, dims_of(op));
  auto timer = subject.timer();
  const auto kernel = subject.function();
  timer.sample(kernel, timer.most_calls());
  const double us = timer.sample(kernel, timer.most_calls());
  const auto& protocol = subject.protocol();
  const int calls = evaluate::plan_graph(us, us, timer.most_calls(), protocol).calls;
  const int more = static_cast<int>(std::lround(calls * work_percent / 100.0));
  base::Random random(static_cast<uint64_t>(base::steady_ns()));
  const auto median = [&](evaluate::GraphCalls of) {
    const auto pairs =
        evaluate::time_graph_pairs(timer, kernel, kernel, of, protocol.process_pairs, random);
    return evaluate::median(pairs.log_ratios);
  };
  return {median({calls, calls}), median({calls, more})};
}

Seen seen_by_a_process(const std::string& program, int work_percent) {
  std::FILE* const out = ::popen((program + " see " + std::to_string(work_percent)).c_str(), "r");
  Seen seen{};
  const bool read = out && std::fscanf(out, "%lf %lf", &seen.same, &seen.more) == 2;
  if (!out || ::pclose(out) != 0 || !read) base::fail("bench", "a process measured nothing");
  return seen;
}

std::pair<std::vector<double>, std::vector<double>> logs_of(const std::vector<Seen>& seen) {
  std::vector<double> same, more;
  for (const Seen& one : seen) same.push_back(one.same), more.push_back(one.more);
  return {same, more};
}

struct Counts {
  int claimed = 0, found = 0, expected = 0;
};

// Claims of processes that are drawn at random, and whether the next one lies inside.
Counts draw_claims(std::vector<Seen> seen, int trials, size_t processes) {
  base::Random random(1);
  Counts counts;
  for (int trial = 0; trial < trials; ++trial) {
    for (size_t i = 0; i <= processes; ++i)
      std::swap(seen[i], seen[i + random.below(seen.size() - i)]);
    const auto [same, more] = logs_of({seen.begin(), seen.begin() + std::ptrdiff_t(processes)});
    counts.claimed += evaluate::across_processes(same).ratio.lo > 1;
    const auto ten = evaluate::across_processes(more);
    counts.found += ten.ratio.lo > 1;
    const double next = std::exp(seen[processes].more);
    counts.expected += ten.expect_lo <= next && next <= ten.expect_hi;
  }
  return counts;
}

base::Json run_of_processes(const std::string& program, int trials, int processes, bool is_long) {
  evaluate::Protocol protocol;
  if (is_long) protocol.claim_processes = kProcessesOfLongClaims;
  std::vector<Seen> seen;
  for (int i = 0; i < processes; ++i)
    seen.push_back(seen_by_a_process(program, is_long ? kWorkPercent : kWorkPercentOfProcesses));
  const auto [claimed, found, expected] =
      draw_claims(seen, trials, static_cast<size_t>(protocol.claim_processes));
  const double all = trials;
  const auto [same, more] = logs_of(seen);
  return {{"date", base::iso_time_now()},
          {"kd_version", base::version()},
          {"mlx_version", mlx::core::version()},
          {"cores", std::thread::hardware_concurrency()},
          {"load", load_average()},
          {"protocol", evaluate::name_of(protocol)},
          {"op", "rmsnorm_residual"},
          {"dims", {{"rows", 1}, {"D", 4096}}},
          {"dtype", "float32"},
          {"processes", processes},
          {"processes_of_a_claim", protocol.claim_processes},
          {"pairs_of_a_process", protocol.process_pairs},
          {"trials", trials},
          {"same",
           {{"claimed", claimed / all},
            {"ratio", std::exp(evaluate::median(same))},
            {"spread", spread(same)}}},
          {is_long ? "five_percent_more_work" : "ten_percent_more_work",
           {{"found", found / all},
            {"next_process_within_what_is_expected", expected / all},
            {"ratio", std::exp(evaluate::median(more))},
            {"spread", spread(more)}}},
          {"goals_met", claimed <= kMostClaimedOfProcesses * all && found >= kLeastFound * all}};
}

// Trials of a kernel against itself and against more calls of it, by turns.
std::pair<Tally, Tally> both_trials(evaluate::GraphTimer& timer, const evaluate::Function& kernel,
                                    const evaluate::GraphPlan& plan, int more, int trials,
                                    const evaluate::Protocol& protocol) {
  base::Random random(1);
  Tally same, slower;
  for (int i = 0; i < trials; ++i) {
    one_trial(timer, kernel, {plan.calls, plan.calls}, plan.pairs, protocol, random, same);
    one_trial(timer, kernel, {plan.calls, more}, plan.pairs, protocol, random, slower);
    if ((i + 1) % 50 == 0)
      std::fprintf(stderr, "%d trials: claimed %d, found %d\n", i + 1, same.claimed,
                   slower.claimed);
  }
  return {same, slower};
}

base::Json run(int trials) {
  mlx::core::set_default_device(mlx::core::Device::cpu);
  const spec::Op& op = kernels::find_op("rmsnorm_residual");
  const Subject subject(op, spec::Dtype::float32, dims_of(op));
  auto timer = subject.timer();
  const auto kernel = subject.function();
  timer.sample(kernel, timer.most_calls());
  const double us = timer.sample(kernel, timer.most_calls());
  const auto plan = evaluate::plan_graph(us, us, timer.most_calls(), subject.protocol());
  const int more = static_cast<int>(std::lround(plan.calls * kWorkPercent / 100.0));
  const auto [same, slower] = both_trials(timer, kernel, plan, more, trials, subject.protocol());
  const double all = trials, claimed = same.claimed / all, found = slower.claimed / all;
  return {
      {"date", base::iso_time_now()},
      {"kd_version", base::version()},
      {"mlx_version", mlx::core::version()},
      {"device", subject.device().name},
      {"cores", subject.device().traits.cores},
      {"load", load_average()},
      {"protocol", evaluate::name_of(subject.protocol())},
      {"op", op.name},
      {"dims", dims_of(op).json()},
      {"dtype", "float32"},
      {"calls", plan.calls},
      {"pairs", plan.pairs},
      {"trials", trials},
      {"same",
       {{"claimed", claimed},
        {"ratio", evaluate::median(same.ratios)},
        {"spread", evaluate::median(same.spreads)}}},
      {"five_percent_more_work", {{"found", found}, {"ratio", evaluate::median(slower.ratios)}}},
      {"goals_met", claimed <= kMostClaimed && found >= kLeastFound}};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 3 && std::string(argv[1]) == "see") {
    const Seen seen = see(std::atoi(argv[2]));
    std::printf("%.17g %.17g\n", seen.same, seen.more);
    return 0;
  }
  const int trials = argc > 1 ? std::atoi(argv[1]) : 1000;
  const std::string path = argc > 2 ? argv[2] : "bench/results/aa_trials.json";
  const int processes = argc > 3 ? std::atoi(argv[3]) : 0;
  const bool is_long = argc > 4 && std::string(argv[4]) == "long";
  if (argc > 4 && !is_long)
    base::misuse("bench", std::string("'") + argv[4] + "' are no claims: give long, or nothing");
  if (trials < 1) base::misuse("bench", "the number of trials must be positive: 1000");
  if (processes != 0 && processes <= kProcessesOfLongClaims)
    base::misuse("bench", "a claim takes more processes than that: give 300");
  const base::Json result =
      processes ? run_of_processes(argv[0], trials, processes, is_long) : run(trials);
  base::write_file_atomically(path, result.dump(2) + "\n", "bench");
  std::printf("%s\n", result.dump(2).c_str());
  return result["goals_met"].get<bool>() ? 0 : 1;
} catch (const mlx_kd::base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
