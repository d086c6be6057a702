#include "mlx_kd/discover/models/tune_state.h"

#include <cmath>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/shapes/sizes.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {

void put_measured(base::Json& json, const char* name, double value) {
  if (std::isfinite(value)) json[name] = value;
}

namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr const char* kStateFile = "tune.json";
constexpr const char* kTuneLock = "tune.lock";
constexpr int kStateSchema = 1;

Json identity_of(const TuneRequest& request) {
  return {{"config_hash", base::sha256_hex(base::canonical_json(request.config)).substr(0, 16)},
          {"device", request.device},
          {"dtype", spec::name_of(request.dtype)},
          {"rows", request.sizes.rows},
          {"prompt", request.sizes.prompt},
          {"seed", request.seed},
          {"allow_approximate", request.allow_approximate}};
}

Json run_json(const UseRun& run) {
  Json json = {{"won", run.won},         {"candidate_id", run.candidate_id},
               {"knobs", run.knobs},     {"left", run.left},
               {"seconds", run.seconds}, {"evaluated", run.evaluated}};
  put_measured(json, "mlx_us", run.mlx_us);
  put_measured(json, "us", run.us);
  put_measured(json, "speedup_lo", run.speedup_lo);
  put_measured(json, "speedup_hi", run.speedup_hi);
  return json;
}

UseRun run_from(const Json& json) {
  UseRun run;
  const auto number = [&](const char* name) { return json.value(name, spec::kUnmeasured); };
  run.mlx_us = number("mlx_us"), run.us = number("us");
  run.speedup_lo = number("speedup_lo"), run.speedup_hi = number("speedup_hi");
  run.won = json.at("won").get<bool>();
  run.candidate_id = json.at("candidate_id").get<std::string>();
  run.knobs = json.at("knobs").get<std::string>();
  run.left = json.at("left").get<std::string>();
  run.seconds = json.at("seconds").get<double>();
  run.evaluated = spec::count_of(json.at("evaluated"));
  return run;
}

Json plan_json(const SearchPlan& plan) {
  Json json = {{"budget", plan.budget},
               {"finalists", plan.finalists},
               {"sizes", Json::array()},
               {"ranges", Json::object()},
               {"of_budget_s", plan.of_budget_s}};
  for (const spec::Dims& size : plan.sizes) json["sizes"].push_back(size.json());
  for (const shapes::DimRange& range : plan.ranges)
    json["ranges"][range.dim] = {range.lo, range.hi};
  if (plan.found) json["found"] = run_json(*plan.found);
  return json;
}

SearchPlan plan_from(const Json& json, const ModelUse& use) {
  const spec::Op& op = *use.op;
  SearchPlan plan;
  plan.budget = spec::count_of(json.at("budget"));
  plan.finalists = spec::count_of(json.at("finalists"));
  plan.of_budget_s = json.at("of_budget_s").get<double>();
  for (const Json& size : json.at("sizes")) {
    spec::Dims given;  // without what follows from it
    for (const std::string& name : op.dim_names())
      given.set(name, static_cast<int64_t>(spec::count_of(size.at(name))));
    plan.sizes.push_back(shapes::checked_size(op, given));
  }
  const Json& ranges = json.at("ranges");
  for (const shapes::DimRange& range : use.ranges)  // all of them, or none
    if (ranges.contains(range.dim)) plan.ranges.push_back(range);
  if (json.contains("found")) plan.found = run_from(json.at("found"));
  return plan;
}

base::FileLock take_folder(const fs::path& out) {
  if (out.empty())
    base::misuse("discover", "there is no folder for the tuning: give --out runs/NAME");
  std::error_code ignored;
  if (fs::exists(out, ignored) && !fs::is_directory(out, ignored))
    base::misuse("discover", out.string() + " is a file: give a folder with --out");
  const bool is_empty = !fs::exists(out, ignored) || fs::is_empty(out, ignored);
  if (!is_empty && !fs::exists(out / kStateFile, ignored) && !fs::exists(out / kTuneLock, ignored))
    base::misuse("discover", out.string() +
                                 " holds other files: give a new folder, or that of a tuning, "
                                 "with --out");
  auto lock = base::FileLock::try_take(out / kTuneLock, "discover");
  if (!lock)
    base::misuse("discover", "another process is tuning in " + out.string() +
                                 ": wait for it, or give another folder");
  return std::move(*lock);
}

}  // namespace

TuneState::TuneState(const TuneRequest& request)
    : request_(&request),
      lock_(take_folder(request.out)),
      identity_(identity_of(request)),
      start_ns_(base::steady_ns()) {
  std::error_code ignored;
  if (fs::exists(request.out / kStateFile, ignored)) read();
  save();
}

void TuneState::read() {
  const fs::path path = request_->out / kStateFile;
  const Json json = base::parse_json(base::read_file(path, "discover"), "discover", path.string());
  try {
    const Json& before = json.at("request");
    for (const auto& [name, value] : identity_.items())
      if (before.at(name) != value)
        base::misuse("discover", request_->out.string() + " holds a tuning with " + name + " " +
                                     before.at(name).dump() + ", and " + value.dump() +
                                     " is asked for: give the same, or another folder with --out");
    earlier_s_ = json.at("seconds").get<double>();
    for (const ModelUse& use : request_->uses.uses) {
      const auto found = json.at("uses").find(use.name);
      if (found == json.at("uses").end()) continue;
      UseState& state = uses_[use.name];
      if (found->contains("default")) state.by_default = run_from(found->at("default"));
      if (found->contains("search")) state.search = plan_from(found->at("search"), use);
    }
    if (json.contains("trial")) trial_ = trial_from(json.at("trial"));
  } catch (const Json::exception& error) {
    base::misuse("discover", path.string() + " is damaged (" + error.what() +
                                 "): remove the folder, or give another one with --out");
  }
}

void TuneState::save() const {
  Json json = {{"schema_version", kStateSchema}, {"model", request_->model},
               {"request", identity_},           {"time_budget_s", request_->time_budget_s},
               {"seconds", seconds()},           {"uses", Json::object()}};
  for (const auto& [name, use] : uses_) {
    Json& one = json["uses"][name] = Json::object();
    if (use.by_default) one["default"] = run_json(*use.by_default);
    if (use.search) one["search"] = plan_json(*use.search);
  }
  if (trial_) json["trial"] = trial_json(*trial_);
  base::write_file_atomically(request_->out / kStateFile, json.dump(2, ' ', true) + "\n",
                              "discover");
}

const UseState* TuneState::find(const ModelUse& use) const {
  const auto found = uses_.find(use.name);
  return found == uses_.end() ? nullptr : &found->second;
}

double TuneState::seconds() const {
  return earlier_s_ + base::seconds_since(start_ns_);
}

fs::path TuneState::folder(const ModelUse& use, const char* run) const {
  return request_->out / "runs" / use.name / run;
}

UseRun use_run(const RunOutcome& outcome, double seconds) {
  UseRun run;
  run.evaluated = outcome.evaluated;
  run.seconds = seconds;
  if (outcome.sizes.empty() || !outcome.sizes.front().claim) {
    run.left = "no kernel passed the proof";
    return run;
  }
  const SizeResult& size = outcome.sizes.front();
  run.mlx_us = size.claim->metrics.baseline_us;
  run.us = size.claim->metrics.latency_us;
  run.speedup_lo = size.claim->metrics.speedup_lo;
  run.speedup_hi = size.claim->metrics.speedup_hi;
  run.won = size.won;
  run.candidate_id = size.claim->candidate_id;
  run.knobs = size.knobs;
  if (!size.won) run.left = size.claim->reason;
  return run;
}

}  // namespace mlx_kd::discover
