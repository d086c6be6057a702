// The part of a session that runs MLX: claims and A/A pairs.
#include <algorithm>
#include <cmath>

#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/evaluate/worker/session.h"
#include "mlx_kd/spec/op/rows.h"

namespace mlx_kd::evaluate {
namespace {

// How many times as many rows a size has as MLX's time is taken with; 1: it is run with all.
double factor_of(const spec::Op& op, const spec::Dims& dims, spec::Dtype t) {
  const int64_t few = spec::mlx_rows_of(op, t);
  if (few <= 0 || dims.at(spec::rows_dim(op)) <= few) return 1;
  return static_cast<double>(dims.at(spec::rows_dim(op))) / static_cast<double>(few);
}

}  // namespace

GraphTimer& Session::graph(size_t size) {
  prover();
  if (!graphs_.count(size)) graphs_.clear();
  const auto [at, added] = graphs_.try_emplace(
      size, op_, setup_.dtype, setup_.sizes[size], timed_case(size), memory_.data(),
      device_->id().traits.l2_bytes, protocol_, device_->accelerator());
  return at->second;
}

Function Session::as_function(const Loaded& what, size_t size) const {
  std::vector<spec::Shape> shapes;
  for (const auto& port : op_.outputs) shapes.push_back(port.shape(setup_.sizes[size]));
  return [program = what.program, shapes, made = call(what, setup_.sizes[size], setup_.params)](
             const Arrays& inputs) { return program->call(inputs, shapes, made); };
}

// Chosen once per size. A user's kernel on the executor is not compared: no program runs it there
// for its speed.
const Baseline& Session::baseline(size_t size) {
  if (const auto found = baselines_.find(size); found != baselines_.end()) return found->second;
  if (!op_.description.is_null() && setup_.device_kind == "simt")
    return baselines_.emplace(size, Baseline{"", nullptr, {}, true}).first->second;
  if (const FewerRows* const fewer = fewer_rows(size)) {
    Baseline mlx = fewer->mlx;
    mlx.us *= factor_of(op_, setup_.sizes[size], setup_.dtype);
    mlx.name += " with " + spec::rows_dim(op_) + "=" +
                std::to_string(spec::mlx_rows_of(op_, setup_.dtype)) + ", in proportion";
    mlx.plan = plan_graph(mlx.us, mlx.us, graph(size).most_calls(), protocol_);
    return baselines_.emplace(size, mlx).first->second;
  }
  return baselines_
      .emplace(size, mlx_at_its_best(op_, spec::numbers_of(op_, setup_.params, setup_.sizes[size]),
                                     graph(size), protocol_, random_))
      .first->second;
}

// Where a call of all rows would be slow, and MLX's time grows with them in proportion; else null.
FewerRows* Session::fewer_rows(size_t size) {
  const spec::Dims& dims = setup_.sizes[size];
  const double factor = factor_of(op_, dims, setup_.dtype);
  if (factor <= 1 || device_->accelerator()) return nullptr;
  prover();
  const spec::Dims few = spec::with_rows(op_, dims, spec::mlx_rows_of(op_, setup_.dtype));
  auto known = fewer_.find(few.text());
  if (known == fewer_.end()) {
    GraphTimer timer(op_, setup_.dtype, few, timed_case(size), memory_.data(),
                     device_->id().traits.l2_bytes, protocol_, device_->accelerator());
    const Baseline mlx =
        mlx_at_its_best(op_, spec::numbers_of(op_, setup_.params, few), timer, protocol_, random_);
    known = fewer_.emplace(few.text(), FewerRows{std::move(timer), mlx, {}}).first;
  }
  const Baseline& mlx = known->second.mlx;
  return mlx.function && is_slow(factor * mlx.us) ? &known->second : nullptr;
}

// With fewer rows MLX's samples are those of all sizes that take them in proportion.
GraphSpeedup Session::compare(const Function& mine, size_t size) {
  const Baseline& mlx = baseline(size);
  GraphTimer& timer = graph(size);
  FewerRows* const fewer = fewer_rows(size);
  if (!fewer)
    return compare_graphs(timer, mine, mlx.function, mlx.plan, protocol_, setup_.seed, random_);
  const double factor = factor_of(op_, setup_.sizes[size], setup_.dtype);
  size_t next = 0;
  const auto mlx_us = [&] {
    if (next == fewer->us.size())
      fewer->us.push_back(fewer->timer.sample(mlx.function, fewer->mlx.plan.calls));
    return factor * fewer->us[next++];
  };
  const auto mine_us = [&] { return timer.sample(mine, mlx.plan.calls); };
  return compare_slow({mine_us, mlx_us}, mlx.plan, protocol_, setup_.seed, random_);
}

// All finalists of a size are compared with its first, so that the machine's drift between them
// does not order them. Of calls as slow as those for which few pairs are enough, so many are here.
void Session::claim_kernel(const Loaded& candidate, const Loaded* leader, size_t size,
                           spec::Metrics& m) {
  const Timed mine = timed(candidate, size);
  const auto theirs = leader ? std::optional(timed(*leader, size)) : std::nullopt;
  const int pairs = is_slow(m.latency_us) ? protocol_.slow_pairs : protocol_.claim_pairs;
  const KernelTimes times =
      time_fixed(mine, theirs ? &*theirs : nullptr, pairs, buffers(size), protocol_, random_);
  m.kernel_us = median(times.us);
  m.log_ratio = leader ? median(times.log_ratios) : 0;
  m.gbps_est = 1e-3 * spec::cost_of(op_, setup_.sizes[size], setup_.dtype).bytes / m.kernel_us;
  m.cold = buffers(size).cold();
}

void Session::claim_graph(const Loaded& candidate, size_t size, spec::Metrics& m) {
  const Function mine = as_function(candidate, size);
  GraphTimer& timer = graph(size);
  const Baseline& mlx = baseline(size);
  std::vector<double> us;
  if (mlx.function) {
    const auto [pairs, speedup] = compare(mine, size);
    m.baseline_us = median(pairs.second_us);
    m.speedup_vs_ref = speedup.middle;
    m.speedup_lo = speedup.lo;
    m.speedup_hi = speedup.hi;
    us = pairs.first_us;
  } else {
    for (int i = 0; i < protocol_.claim_pairs; ++i)
      us.push_back(timer.sample(mine, timer.most_calls()));
  }
  m.latency_us = median(us);
  m.p10_us = percentile(us, 0.1);
  m.p90_us = percentile(us, 0.9);
  std::vector<double> single;
  const int samples = is_slow(m.latency_us) ? protocol_.slow_pairs : protocol_.single_samples;
  for (int i = 0; i < samples; ++i) single.push_back(timer.sample_single(mine));
  m.single_us = median(single);
}

// All cases for the first claim of a kernel in this process, for others those of their size: a
// kernel that is wrong at one size has no claim at any.
Proof Session::prove_again(const Loaded& loaded, size_t size) {
  const auto known = proved_.find(loaded.candidate.id());
  if (known == proved_.end())
    return proved_.emplace(loaded.candidate.id(), prover().prove(loaded.candidate, *loaded.program))
        .first->second;
  if (known->second.status != spec::Status::benchmarked) return known->second;
  const Proof again = prover().prove(loaded.candidate, *loaded.program, size);
  known->second.status = again.status, known->second.reason = again.reason;
  return known->second;
}

// The reply has {"mlx": {"composition", "compiled", "calls"}} if further processes are to make the
// claim as well: there is something to compare with, and a call of it is not slow.
base::Json Session::claim(const base::Json& request) try {
  const auto size = request.at("size").get<size_t>();
  const Loaded loaded = load(request);
  const base::Json& other = request.at("leader");
  const Loaded* const leader = other.is_null() ? nullptr : &incumbent(other);
  const Proof proof = prove_again(loaded, size);
  base::Json answer = to_json(proof);
  if (proof.status != spec::Status::benchmarked) return answer;
  spec::Metrics metrics;
  claim_graph(loaded, size, metrics);
  claim_kernel(loaded, leader, size, metrics);
  metrics.correctness_max_abs_err = proof.sizes[size].max_abs_err;
  metrics.correctness_max_rel_err = proof.sizes[size].max_rel_err;
  metrics.error_bound_used = proof.sizes[size].bound_used;
  metrics.bit_exact = proof.sizes[size].bit_exact;
  answer["metrics"] = to_json(metrics);
  answer["baseline"] = baseline(size).name;
  answer["claim_kind"] = name_of(baseline(size).mlx_cannot ? spec::ClaimKind::mlx_cannot
                                                           : spec::ClaimKind::faster_than_mlx);
  const Baseline& mlx = baseline(size);
  if (mlx.function && !mlx.plan.slow)
    answer["mlx"] = {
        {"composition", mlx.mlx_cannot}, {"compiled", mlx.is_compiled}, {"calls", mlx.plan.calls}};
  return answer;
} catch (const std::exception& error) {
  return launch_error(error);
}

base::Json Session::claim_again(const base::Json& request) try {
  const auto size = request.at("size").get<size_t>();
  const base::Json& form = request.at("mlx");
  const Loaded loaded = load(request);
  const Function mine = as_function(loaded, size);
  const Function mlx = mlx_form(op_, spec::numbers_of(op_, setup_.params, setup_.sizes[size]),
                                form.at("composition"), form.at("compiled"));
  const int calls = form.at("calls");
  GraphTimer& timer = graph(size);
  timer.sample(mlx, 1);
  const double pair_us =
      timer.sample(mine, calls) + timer.sample(mlx, calls) + 2 * timer.flush_us();
  const double pair_s = 1e-6 * calls * pair_us;
  const int pairs = std::clamp(static_cast<int>(protocol_.process_s / pair_s),
                               protocol_.least_pairs, protocol_.process_pairs);
  base::Json answer = {{"status", name_of(spec::Status::benchmarked)}, {"reason", ""}};
  answer["log_ratio"] =
      median(time_graph_pairs(timer, mine, mlx, {calls, calls}, pairs, random_).log_ratios);
  return answer;
} catch (const std::exception& error) {
  return launch_error(error);
}

base::Json Session::aa(const base::Json& request) {
  const auto size = request.at("size").get<size_t>();
  const Loaded loaded = load(request);
  const Function mine = as_function(loaded, size);
  GraphTimer& timer = graph(size);
  const double first_us = timer.sample_single(mine);
  const Baseline& mlx = baseline(size);
  const GraphPlan plan = mlx.function ? mlx.plan
                                      : plan_graph(first_us, first_us, timer.most_calls(),
                                                   protocol_, timer.flush_us());
  const int count = is_slow(first_us) ? protocol_.slow_pairs : plan.pairs;
  const GraphPairs pairs =
      time_graph_pairs(timer, mine, mine, {plan.calls, plan.calls}, count, random_);
  const Interval ratio =
      bootstrap_ratio(pairs.log_ratios, protocol_.bootstrap_resamples, setup_.seed);
  const double spread =
      std::exp(percentile(pairs.log_ratios, 0.9) - percentile(pairs.log_ratios, 0.1));
  return {{"ratio", ratio.middle}, {"lo", ratio.lo}, {"hi", ratio.hi}, {"spread", spread}};
}

}  // namespace mlx_kd::evaluate
