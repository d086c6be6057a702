#include "mlx_kd/evaluate/evaluators/device_evaluator.h"

#include <mlx/version.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/worker/compile_batch.h"
#include "mlx_kd/evaluate/worker/sanitizer.h"

namespace mlx_kd::evaluate {
namespace {

using Kind = WorkerClient::Answer::Kind;

constexpr double kWatchedSlower = 10;  // times, of a proof under compute-sanitizer

Setup setup_of(const Task& task, const EvaluateOptions& options) {
  const auto params = options.params.empty() ? spec::default_scalars(*task.op) : options.params;
  return {task.op->name, task.device_kind, task.op->description, task.dtype,   task.sizes,
          params,        options.seed,     options.warmup,       options.iters};
}

base::Json request_for(const char* what, const spec::Candidate& candidate,
                       const devices::Artifact& artifact) {
  return {{"do", what}, {"candidate", to_json(candidate)}, {"artifact", to_json(artifact)}};
}

// The times of a size, in addition to the errors that its proof found.
void add_times(const spec::Metrics& times, spec::Metrics& metrics) {
  const spec::Metrics errors = metrics;
  metrics = times;
  metrics.correctness_max_abs_err = errors.correctness_max_abs_err;
  metrics.correctness_max_rel_err = errors.correctness_max_rel_err;
  metrics.error_bound_used = errors.error_bound_used;
  metrics.bit_exact = errors.bit_exact;
}

}  // namespace

double DeviceEvaluator::Partner::objective() const {
  double sum = 0;
  for (double value : log_ratios) sum += value;
  return sum / static_cast<double>(log_ratios.size());
}

DeviceEvaluator::DeviceEvaluator(const Task& task, const EvaluateOptions& options)
    : task_(task),
      options_(options),
      device_(devices::open_device(task.device_kind)),
      protocol_(protocol_for(options, device_->accelerator() != nullptr)),
      setup_(setup_of(task, options)),
      host_(setup_, options.worker_program,
            plan_cases(*task.op, task.dtype, task.sizes, setup_.params, protocol_).bytes) {}

std::vector<devices::Artifact> DeviceEvaluator::compile(const std::vector<spec::Candidate>& batch) {
  const int64_t start = base::steady_ns();
  auto artifacts =
      compile_batch(*device_, batch, options_.compile_limit_s, host_.interrupted_flag());
  compile_s_ += base::seconds_since(start);
  return artifacts;
}

// References are not a measurement: they may be computed while others compile. What both took is
// counted once, or the stages of a run would add up to more than the run.
void DeviceEvaluator::prepare_while_compiling(const std::vector<spec::Candidate>& batch,
                                              std::vector<devices::Artifact>& artifacts) {
  const double compile_before = compile_s_, reference_before = host_.reference_seconds();
  auto compiled = std::async(std::launch::async, [&] { return compile(batch); });
  host_.prepare();
  artifacts = compiled.get();
  compile_s_ -= std::min(compile_s_ - compile_before, host_.reference_seconds() - reference_before);
  compile_if_adopted(anchor_);
  compile_if_adopted(incumbent_);
  if (!options_.prove_only) host_.measure();
}

void DeviceEvaluator::compile_if_adopted(std::optional<Partner>& partner) {
  if (partner && !partner->what.artifact.ok)
    partner->what.artifact = compile({partner->what.candidate}).front();
}

void DeviceEvaluator::evaluate(const std::vector<spec::Candidate>& batch,
                               const std::function<void(size_t, const spec::Verdict&)>& done) {
  if (batch.empty()) return;
  std::vector<devices::Artifact> artifacts;
  prepare_while_compiling(batch, artifacts);
  for (size_t i = 0; i < batch.size(); ++i) {
    if (host_.interrupted()) return;
    const Compiled what{batch[i], artifacts[i]};
    const spec::Verdict verdict = judge(what);
    if (host_.interrupted()) return;
    keep_if_best(what, verdict);
    done(i, verdict);
  }
}

spec::Verdict DeviceEvaluator::judge(const Compiled& what) {
  spec::Verdict verdict;
  verdict.metrics.compile_time_ms = what.artifact.compile_ms;
  verdict.seconds["compile"] = what.artifact.cached ? 0 : 1e-3 * what.artifact.compile_ms;
  if (!what.artifact.ok) {
    verdict.status = spec::Status::compile_error;
    verdict.reason = what.artifact.error;
    return verdict;
  }
  if (prove(what, verdict) && watch(what, verdict) && !options_.prove_only &&
      !take_known_times(what, verdict)) {
    time(what, incumbent_ ? &*incumbent_ : nullptr, 0, verdict);
    confirm(what, verdict);
  }
  if (verdict.status == spec::Status::benchmarked) {
    spec::summarise(verdict);
    if (!options_.prove_only && verdict.seconds.contains("time"))
      timed_.emplace(what.artifact.path, Timed{what, verdict.sizes});
  } else {
    if (verdict.status != spec::Status::suspicious) verdict.sizes.clear();
    host_.replace();
  }
  return verdict;
}

// The status that the answer tells. True if it is a reply that says `benchmarked`.
bool DeviceEvaluator::take(const WorkerClient::Answer& answer, const std::string& doing,
                           double limit_s, spec::Verdict& verdict) {
  if (answer.kind == Kind::timed_out) {
    verdict.status = spec::Status::timeout;
    verdict.reason = doing + " took longer than " + base::seconds_text(limit_s);
  } else if (answer.kind == Kind::died) {
    verdict.status = spec::Status::crashed;
    verdict.reason = "it ended its process while " + doing + ": " + answer.reason;
  } else {
    verdict.status = spec::parse_status(answer.reply.at("status").get<std::string>());
    verdict.reason = answer.reply.at("reason").get<std::string>();
  }
  return verdict.status == spec::Status::benchmarked;
}

bool DeviceEvaluator::prove(const Compiled& what, spec::Verdict& verdict) {
  const int64_t start = base::steady_ns();
  const auto answer =
      host_.ask(request_for("prove", what.candidate, what.artifact), options_.prove_limit_s);
  const double took = base::seconds_since(start);
  prove_s_ += took;
  verdict.seconds["prove"] = took;
  if (!take(answer, "proving", options_.prove_limit_s, verdict)) return false;
  const base::Json& errors = answer.reply.at("errors");
  for (size_t i = 0; i < task_.sizes.size(); ++i) {
    spec::SizeMetrics size{task_.sizes[i], {}};
    size.metrics.correctness_max_abs_err = errors[i].at("max_abs_err").get<double>();
    size.metrics.correctness_max_rel_err = errors[i].at("max_rel_err").get<double>();
    size.metrics.error_bound_used = errors[i].at("bound_used").get<double>();
    size.metrics.bit_exact = errors[i].at("bit_exact").get<bool>();
    verdict.sizes.push_back(size);
  }
  return true;
}

// The proof once more under compute-sanitizer, if that is asked for.
bool DeviceEvaluator::watch(const Compiled& what, spec::Verdict& verdict) {
  if (options_.sanitizer.empty()) return true;
  const int64_t start = base::steady_ns();
  const double limit_s = kWatchedSlower * options_.prove_limit_s;
  std::string log;
  const auto answer = host_.ask_watched(request_for("prove", what.candidate, what.artifact),
                                        limit_s, options_.sanitizer, log);
  verdict.seconds["sanitize"] = base::seconds_since(start);
  const bool passed = take(answer, "proving under compute-sanitizer", limit_s, verdict);
  const std::string found = findings_of(log);
  if (found.empty()) return passed;
  verdict.status = spec::Status::wrong;
  verdict.reason = "compute-sanitizer: " + found;
  return false;
}

bool DeviceEvaluator::are_one_program(const Compiled& a, const Compiled& b) const {
  if (a.artifact.path != b.artifact.path || a.candidate.variant != b.candidate.variant)
    return false;
  const auto call = [&](const spec::Candidate& one, const spec::Dims& dims) {
    return devices::make_call(*task_.op, spec::variant_of(*task_.op, one), task_.dtype, dims,
                              one.knobs, setup_.params);
  };
  return std::all_of(task_.sizes.begin(), task_.sizes.end(), [&](const spec::Dims& dims) {
    const devices::Call mine = call(a.candidate, dims), other = call(b.candidate, dims);
    return mine.stages == other.stages && mine.scratch == other.scratch;
  });
}

// Knobs that change nothing make one program of many candidates. Each is proved; timed is the first
// alone, and not again where the very same candidate is asked for twice.
bool DeviceEvaluator::take_known_times(const Compiled& what, spec::Verdict& verdict) const {
  const auto [first, last] = timed_.equal_range(what.artifact.path);
  const auto known = std::find_if(first, last, [&](const auto& one) {
    return one.second.what.candidate.id() != what.candidate.id() &&
           are_one_program(one.second.what, what);
  });
  if (known == last) return false;
  for (size_t i = 0; i < verdict.sizes.size(); ++i)
    add_times(known->second.sizes[i].metrics, verdict.sizes[i].metrics);
  verdict.timed_against = known->second.what.candidate.id();
  return true;
}

// What seemed faster is timed again, with as many pairs as it takes to know, and what the search
// sees is the second sample: the first was looked at because it was low. What then leads is timed
// against the anchor. Log ratios over a chain of incumbents would add up what they owe to the state
// of the machine: kernels of few and of many threads take turns in winning as cores come and go.
void DeviceEvaluator::confirm(const Compiled& what, spec::Verdict& verdict) {
  if (verdict.status != spec::Status::benchmarked) return;
  verdict.is_incumbent = !incumbent_;
  if (!incumbent_) return;
  spec::summarise(verdict);
  if (verdict.objective > incumbent_->objective() + std::log(protocol_.confirm_factor)) return;
  const base::Json reply = time(what, &*incumbent_, protocol_.confirm_pairs, verdict);
  if (reply.value("wins", 0) < protocol_.confirm_wins) return;
  if (incumbent_->what.candidate.id() != anchor_->what.candidate.id())
    time(what, &*anchor_, protocol_.confirm_pairs, verdict);
  verdict.is_incumbent = verdict.status == spec::Status::benchmarked;
}

// The worker's reply; empty where it did not measure.
base::Json DeviceEvaluator::time(const Compiled& what, const Partner* other, int pairs,
                                 spec::Verdict& verdict) {
  const int64_t start = base::steady_ns();
  base::Json request = request_for("time", what.candidate, what.artifact);
  request["pairs"] = pairs > 0 ? base::Json(pairs) : base::Json();
  request["incumbent"] =
      other ? request_for("", other->what.candidate, other->what.artifact) : base::Json();
  const auto answer = host_.ask(request, options_.time_limit_s);
  const double took = base::seconds_since(start);
  time_s_ += took;
  verdict.seconds["time"] = verdict.seconds.value("time", 0.0) + took;
  if (other) verdict.timed_against = other->what.candidate.id();
  take(answer, "timing", options_.time_limit_s, verdict);
  if (answer.kind != Kind::reply || !answer.reply.contains("sizes")) return base::Json::object();
  for (size_t i = 0; i < verdict.sizes.size(); ++i) {
    spec::Metrics& metrics = verdict.sizes[i].metrics;
    add_times(spec::metrics_from_json(answer.reply["sizes"][i]), metrics);
    if (other) metrics.log_ratio += other->log_ratios[i];
  }
  return answer.reply;
}

void DeviceEvaluator::keep_if_best(const Compiled& what, const spec::Verdict& verdict) {
  if (!verdict.is_incumbent) return;
  std::vector<double> log_ratios;
  for (const auto& size : verdict.sizes) log_ratios.push_back(size.metrics.log_ratio);
  incumbent_ = Partner{what, log_ratios};
  if (!anchor_) anchor_ = incumbent_;
}

void DeviceEvaluator::adopt(const spec::Candidate& anchor, const spec::Candidate& incumbent,
                            const std::vector<double>& log_ratios) {
  if (log_ratios.size() != task_.sizes.size())
    base::misuse("evaluate", "the run to go on with recorded " + std::to_string(log_ratios.size()) +
                                 " sizes and this one has " + std::to_string(task_.sizes.size()) +
                                 ": start a new run");
  anchor_ = Partner{{anchor, devices::Artifact()}, std::vector<double>(log_ratios.size(), 0.0)};
  incumbent_ = Partner{{incumbent, devices::Artifact()}, log_ratios};
}

base::Json DeviceEvaluator::protocol() const {
  return to_json(protocol_);
}

std::string DeviceEvaluator::protocol_name() const {
  return name_of(protocol_);
}

base::Json DeviceEvaluator::runtime() const {
  const spec::DeviceId& id = device_->id();
  return {{"mlx_version", mlx::core::version()},
          {"device_name", id.name},
          {"device_arch", id.arch},
          {"device_kind", id.kind},
          {"target", id.target}};
}

base::Json DeviceEvaluator::seconds() const {
  return {{"compile", compile_s_},
          {"prove", prove_s_},
          {"time", time_s_},
          {"reference", host_.reference_seconds()},
          {"claims", claims_s_}};
}

}  // namespace mlx_kd::evaluate
