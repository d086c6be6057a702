#include "mlx_kd/discover/models/trial_result.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/evaluate/protocol.h"
#include "mlx_kd/evaluate/time/statistics.h"

namespace mlx_kd::discover {
namespace {

using base::Json;

Gain gain_from(const Json& json) {
  if (json.is_null()) return {};
  return {json.at("ratio").get<double>(), json.at("lo").get<double>(), json.at("hi").get<double>(),
          json.at("rounds").get<uint64_t>()};
}

Json pass_json(const PassTrial& pass) {
  Json json = {{"tried", pass.tried},
               {"alone", Json::object()},
               {"together", gain_json(pass.together)},
               {"kept", pass.kept},
               {"pack", gain_json(pass.pack)},
               {"over_patch", gain_json(pass.over_patch)},
               {"has_pins", pass.has_pins}};
  for (const auto& [use, gain] : pass.alone) json["alone"][use] = gain_json(gain);
  return json;
}

PassTrial pass_from(const Json& json) {
  PassTrial pass;
  pass.tried = json.at("tried").get<std::set<std::string>>();
  for (const auto& [use, gain] : json.at("alone").items()) pass.alone[use] = gain_from(gain);
  pass.together = gain_from(json.at("together"));
  pass.kept = json.at("kept").get<std::set<std::string>>();
  pass.pack = gain_from(json.at("pack"));
  pass.over_patch = gain_from(json.at("over_patch"));
  pass.has_pins = json.at("has_pins").get<bool>();
  return pass;
}

}  // namespace

Gain gain_of(const std::vector<double>& pack, const std::vector<double>& other) {
  std::vector<double> logs;
  for (size_t i = 0; i < std::min(pack.size(), other.size()); ++i)
    logs.push_back(std::log(other[i] / pack[i]));
  const auto found = evaluate::bootstrap_ratio(logs, evaluate::Protocol().bootstrap_resamples, 0);
  return {found.middle, found.lo, found.hi, logs.size()};
}

std::set<std::string> worth_keeping(const PassTrial& trial) {
  if (trial.alone.empty()) return trial.together.hi >= 1 ? trial.tried : std::set<std::string>();
  std::set<std::string> result;
  for (const auto& [use, gain] : trial.alone)
    if (gain.lo > 1 || (trial.together.lo > 1 && gain.hi >= 1)) result.insert(use);
  return result;
}

UsesByPass ModelTrial::kept() const {
  UsesByPass result;
  for (const PassTrial& pass : passes) result.push_back(pass.kept);
  return result;
}

std::set<size_t> ModelTrial::without_pins() const {
  std::set<size_t> result;
  for (size_t i = 0; i < passes.size(); ++i)
    if (!passes[i].has_pins) result.insert(i);
  return result;
}

Json gain_json(const Gain& gain) {
  if (!std::isfinite(gain.ratio)) return nullptr;
  return {{"ratio", gain.ratio}, {"lo", gain.lo}, {"hi", gain.hi}, {"rounds", gain.rounds}};
}

Json trial_json(const ModelTrial& trial) {
  Json json = {{"winners", trial.winners},
               {"why_not", trial.why_not},
               {"seconds", trial.seconds},
               {"of_budget_s", trial.of_budget_s},
               {"passes", Json::array()}};
  for (const PassTrial& pass : trial.passes) json["passes"].push_back(pass_json(pass));
  return json;
}

ModelTrial trial_from(const Json& json) {
  ModelTrial trial;
  trial.winners = json.at("winners").get<std::string>();
  trial.why_not = json.at("why_not").get<std::string>();
  trial.seconds = json.at("seconds").get<double>();
  trial.of_budget_s = json.at("of_budget_s").get<double>();
  for (const Json& pass : json.at("passes")) trial.passes.push_back(pass_from(pass));
  return trial;
}

}  // namespace mlx_kd::discover
