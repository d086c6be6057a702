// Records the search space of an operator at one size, for kd replay.
//
//   bench_record_space KD OP SIZE OUT.json.gz [points (3000)] [stages (300x4,60x12,15x30)]
//                      [seconds (600)] [device (cpu)] [dtype (float32)]
//
// KD is the program that provides workers, SIZE is written as kd run --shapes takes it.
//
// A random part of the space (all of it, where `points` reach) is proved and timed as in a run,
// with one difference: the other side of every pair is one and the same kernel, the fastest of a
// search of 60. In a run it is the incumbent of the moment, and what a change of incumbent gets
// wrong is in all values that follow.
//
// After one pass over all points the 300 fastest are measured in 4 passes, the 60 fastest of these
// in 12, the 15 fastest of those in 30, each pass in another order. The least of many noisy values
// is a lucky one, so what is recorded of a point is the median of the last stage that it was in
// alone: the stage before chose it, this one did not.
//
// OUT is a Kernel Tuner cache. Of each configuration "time" is that median and "times" are the
// passes that it is of, in ms (the ratio to the common kernel, times that one's median);
// "stages" are those of all stages. OUT's "recording" says how it was made.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>
#include <string>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/run/candidate_space.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/evaluate/worker/compile_batch.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/search/strategy/strategy.h"
#include "mlx_kd/shapes/sizes.h"

namespace {

using namespace mlx_kd;

constexpr size_t kSearch = 60, kCompiledAtOnce = 64, kAnchorEvery = 50;
constexpr double kCompileLimitS = 60;
constexpr double kFirstShare = 0.65;  // of the seconds, for compiling and the first stage

struct Request {
  std::string kd, op, size, out;
  size_t points = 3000;
  std::string stages = "300x4,60x12,15x30";
  double seconds = 600;
  std::string device = "cpu", dtype = "float32";
};

struct Stage {
  size_t points, passes;
};

struct Measured {
  size_t point;
  std::vector<std::vector<double>> stages;  // log ratios to the anchor, a pass each
  std::string failure;                      // as a cache names it, if it was never measured
  double compile_ms = 0, prove_s = 0, time_s = 0;

  bool known() const { return !stages.empty(); }
  double value() const { return evaluate::median(stages.back()); }
};

// "300x4,60x12" is two stages.
std::vector<Stage> parse_stages(const std::string& text) {
  std::vector<Stage> stages;
  std::istringstream list(text);
  for (std::string one; std::getline(list, one, ',');) {
    Stage stage{};
    if (std::sscanf(one.c_str(), "%zux%zu", &stage.points, &stage.passes) != 2)
      base::misuse("bench", "stage '" + one + "' is none: write 300x4, say");
    stages.push_back(stage);
  }
  return stages;
}

class Recorder {
 public:
  explicit Recorder(const Request& request)
      : request_(request),
        start_(base::steady_ns()),
        op_(kernels::find_op(request.op)),
        dtype_(spec::parse_float_dtype(request.dtype)),
        device_(devices::open_device(request.device)),
        sizes_(shapes::sizes_from(op_, "", {request.size})),
        space_(op_, device_->languages(), dtype_, device_->id().traits, sizes_.sizes.front()),
        points_(search::Points::enumerate(space_.space())),
        evaluator_(make_evaluator()) {}

  void record() {
    choose_points();
    compile_all();
    find_anchor();
    measure(everything(), 0, kFirstShare * request_.seconds);
    if (anchor_us_.empty())
      base::fail("bench", "compiling took all of the " + base::seconds_text(request_.seconds) +
                              ", no point was timed: allow more seconds or fewer points");
    for (const Stage& stage : parse_stages(request_.stages)) {
      const std::vector<size_t> which = fastest(stage.points);
      ++stage_;
      for (size_t pass = 0; pass < stage.passes; ++pass) measure(which, pass, request_.seconds);
    }
    base::write_file_atomically(request_.out, archive::gzip(cache().dump()), "bench");
    std::printf("%s\n", summary().dump().c_str());
  }

 private:
  std::unique_ptr<evaluate::Evaluator> make_evaluator() const {
    evaluate::EvaluateOptions options;
    options.worker_program = request_.kd;
    options.params = spec::default_scalars(op_);
    return evaluate::make_evaluator({&op_, request_.device, dtype_, sizes_.sizes}, options);
  }

  spec::Candidate candidate(size_t point) const { return space_.candidate(points_.setting(point)); }

  void choose_points() {
    const auto random = search::make_strategy("random", points_, {}, 0);
    for (size_t point : random->propose(std::min(request_.points, points_.size())))
      measured_.push_back({point, {}, ""});
  }

  // Beforehand, so that nothing compiles between measurements.
  void compile_all() const {
    const std::atomic<bool> stop{false};
    for (size_t i = 0; i < measured_.size(); i += kCompiledAtOnce) {
      std::vector<spec::Candidate> batch;
      for (size_t k = i; k < std::min(i + kCompiledAtOnce, measured_.size()); ++k)
        batch.push_back(candidate(measured_[k].point));
      evaluate::compile_batch(*device_, batch, kCompileLimitS, stop);
    }
    std::fprintf(stderr, "%s: compiled after %.0f s\n", op_.name.c_str(),
                 base::seconds_since(start_));
  }

  spec::Verdict judge(size_t point) {
    spec::Verdict result;
    evaluator_->evaluate({candidate(point)},
                         [&](size_t, const spec::Verdict& verdict) { result = verdict; });
    return result;
  }

  void find_anchor() {
    const auto strategy = search::make_strategy("tours", points_, {}, 0);
    double least = HUGE_VAL;
    for (size_t i = 0; i < kSearch; ++i) {
      const size_t point = strategy->propose(1).at(0);
      const spec::Verdict verdict = judge(point);
      const bool ok = verdict.status == spec::Status::benchmarked;
      strategy->observe({point, !ok, ok ? verdict.objective : 0});
      if (!ok || verdict.objective >= least) continue;
      least = verdict.objective;
      anchor_ = point;
    }
    if (least == HUGE_VAL) base::fail("bench", "no kernel of " + op_.name + " passed");
  }

  spec::Verdict judge_against_anchor(size_t point) {
    const spec::Candidate anchor = candidate(anchor_);
    evaluator_->adopt(anchor, anchor, std::vector<double>(sizes_.sizes.size()));
    return judge(point);
  }

  std::vector<size_t> everything() const {
    std::vector<size_t> order(measured_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    return order;
  }

  // Of those in the stage under way, by what it measured alone.
  std::vector<size_t> fastest(size_t count) const {
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < measured_.size(); ++i)
      if (measured_[i].known() && measured_[i].stages.size() == stage_)
        order.push_back({measured_[i].value(), i});
    std::sort(order.begin(), order.end());
    order.resize(std::min(order.size(), count));
    std::vector<size_t> which;
    for (const auto& [value, i] : order) which.push_back(i);
    return which;
  }

  // One pass over these, in its own order, as far as the time goes.
  void measure(std::vector<size_t> which, size_t pass, double until_s) {
    base::Random random(100 * stage_ + pass);
    for (size_t left = which.size(); left > 1; --left)
      std::swap(which[left - 1], which[random.below(left)]);
    size_t done = 0;
    for (; done < which.size() && base::seconds_since(start_) < until_s; ++done) {
      if (done % kAnchorEvery == 0) time_anchor();
      add(measured_[which[done]]);
    }
    std::fprintf(stderr, "%s: stage %zu, pass %zu, %zu of %zu points, %.0f s\n", op_.name.c_str(),
                 stage_, pass + 1, done, which.size(), base::seconds_since(start_));
  }

  void time_anchor() {
    const spec::Verdict verdict = judge_against_anchor(anchor_);
    if (verdict.status == spec::Status::benchmarked)
      anchor_us_.push_back(verdict.metrics.kernel_us);
  }

  void add(Measured& one) {
    const spec::Verdict verdict = judge_against_anchor(one.point);
    one.prove_s = verdict.seconds.value("prove", 0.0);
    one.time_s = verdict.seconds.value("time", 0.0);
    if (!std::isnan(verdict.metrics.compile_time_ms))
      one.compile_ms = verdict.metrics.compile_time_ms;
    if (verdict.status == spec::Status::benchmarked) {
      one.stages.resize(stage_);
      one.stages.back().push_back(verdict.objective);
    } else {
      one.failure = verdict.status == spec::Status::compile_error ? "CompilationFailedConfig"
                                                                  : "RuntimeFailedConfig";
    }
  }

  double anchor_us() const { return evaluate::median(anchor_us_); }

  // The knobs that vary among the points measured, with the values that occur.
  base::OrderedJson tune_params() const {
    base::OrderedJson params = base::OrderedJson::object();
    for (size_t knob = 0; knob < points_.knobs(); ++knob) {
      const spec::Knob& what = points_.space().knobs[knob];
      std::vector<bool> occurs(what.values.size());
      for (const Measured& one : measured_) occurs[points_.value_index(one.point, knob)] = true;
      std::vector<int64_t> values;
      for (size_t i = 0; i < occurs.size(); ++i)
        if (occurs[i]) values.push_back(what.values[i]);
      std::sort(values.begin(), values.end());
      if (values.size() > 1) params[what.name] = values;
    }
    return params;
  }

  base::OrderedJson times_ms(const std::vector<double>& log_ratios) const {
    base::OrderedJson times = base::OrderedJson::array();
    for (double ratio : log_ratios) times.push_back(1e-3 * anchor_us() * std::exp(ratio));
    return times;
  }

  base::OrderedJson entry(const Measured& one, const base::OrderedJson& params) const {
    const spec::Setting setting = points_.setting(one.point);
    base::OrderedJson entry = base::OrderedJson::object();
    for (const auto& [name, values] : params.items()) entry[name] = setting.at(name);
    if (one.known()) {
      entry["time"] = 1e-3 * anchor_us() * std::exp(one.value());
      entry["times"] = times_ms(one.stages.back());
      entry["stages"] = base::OrderedJson::array();
      for (const auto& stage : one.stages) entry["stages"].push_back(times_ms(stage));
    } else {
      entry["time"] = one.failure;
      entry["times"] = base::OrderedJson::array();
    }
    entry["compile_time"] = one.compile_ms;
    entry["verification_time"] = 1e3 * one.prove_s;
    entry["framework_time"] = 1e3 * one.time_s;
    entry["strategy_time"] = 0.0;
    return entry;
  }

  base::OrderedJson recording() const {
    return {{"points_of_space", points_.size()}, {"points", request_.points},
            {"stages", request_.stages},         {"anchor", points_.setting(anchor_).text()},
            {"anchor_us", anchor_us()},          {"protocol", evaluator_->protocol_name()},
            {"runtime", evaluator_->runtime()}};
  }

  base::OrderedJson cache() const {
    const base::OrderedJson params = tune_params();
    std::vector<std::string> names;
    for (const auto& [name, values] : params.items()) names.push_back(name);
    base::OrderedJson::object_t entries;  // appended to: looking for each key would be quadratic
    for (const Measured& one : measured_) {
      if (one.stages.empty() && one.failure.empty()) continue;  // the time was over
      std::string key;
      for (const std::string& name : names)
        key += (key.empty() ? "" : ",") + std::to_string(points_.setting(one.point).at(name));
      entries.emplace_back(key, entry(one, params));
    }
    return {{"device_name", device_->id().name},
            {"kernel_name", op_.name},
            {"problem_size", {sizes_.sizes.front().text()}},
            {"dtype", request_.dtype},
            {"objective", "time"},
            {"recording", recording()},
            {"tune_params_keys", names},
            {"tune_params", params},
            {"cache", std::move(entries)}};
  }

  // Standard deviation of the log of one pass of a stage about the point's median, robust against
  // outliers.
  base::OrderedJson noise_of(size_t stage) const {
    std::vector<double> off;
    for (const Measured& one : measured_) {
      if (one.stages.size() < stage || one.stages[stage - 1].size() < 2) continue;
      const std::vector<double>& passes = one.stages[stage - 1];
      const auto count = static_cast<double>(passes.size());
      for (double ratio : passes)
        off.push_back(std::abs(ratio - evaluate::median(passes)) * std::sqrt(count / (count - 1)));
    }
    if (off.empty()) return nullptr;
    return 1.4826 * evaluate::median(off);
  }

  base::OrderedJson summary() const {
    std::vector<double> times;
    size_t failed = 0;
    for (const Measured& one : measured_) {
      failed += !one.known() && !one.failure.empty();
      if (one.known()) times.push_back(anchor_us() * std::exp(one.value()));
    }
    base::OrderedJson noise = base::OrderedJson::array();
    for (size_t stage = 2; stage <= stage_; ++stage) noise.push_back(noise_of(stage));
    std::sort(times.begin(), times.end());
    return {{"op", op_.name},
            {"size", request_.size},
            {"dtype", request_.dtype},
            {"points_of_space", points_.size()},
            {"valid", times.size()},
            {"failed", failed},
            {"best_us", times.front()},
            {"median_us", times[times.size() / 2]},
            {"stages", request_.stages},
            {"noise_of_a_pass_by_stage", noise},
            {"seconds", std::round(base::seconds_since(start_))}};
  }

  Request request_;
  int64_t start_;
  const spec::Op& op_;
  spec::Dtype dtype_;
  std::shared_ptr<const devices::Device> device_;
  shapes::Sizes sizes_;
  discover::CandidateSpace space_;
  search::Points points_;
  std::unique_ptr<evaluate::Evaluator> evaluator_;
  std::vector<Measured> measured_;
  size_t anchor_ = 0;
  size_t stage_ = 1;  // from 1; the first is over all points
  std::vector<double> anchor_us_;
};

Request request_of(int argc, char** argv) {
  Request request{argv[1], argv[2], argv[3], argv[4]};
  if (argc > 5) request.points = std::strtoull(argv[5], nullptr, 10);
  if (argc > 6) request.stages = argv[6];
  if (argc > 7) request.seconds = std::strtod(argv[7], nullptr);
  if (argc > 8) request.device = argv[8];
  if (argc > 9) request.dtype = argv[9];
  return request;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: %s KD OP SIZE OUT.json.gz [points] [stages] [seconds] [device] [dtype]\n",
                 argv[0]);
    return 2;
  }
  Recorder(request_of(argc, argv)).record();
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
