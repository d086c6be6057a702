#include <utility>

#include "mlx_kd/archive/run/record_json.h"

namespace mlx_kd::archive {
namespace {

using base::Json;
using Sizes = std::vector<spec::Dims>;

constexpr std::pair<const char*, double AaPair::*> kAaFields[] = {{"ratio", &AaPair::ratio},
                                                                  {"lo", &AaPair::lo},
                                                                  {"hi", &AaPair::hi},
                                                                  {"spread", &AaPair::spread}};

Json to_json(const Claim& claim) {
  return {{"shape", claim.dims.json()},
          {"candidate_id", claim.candidate_id},
          {"claimed", claim.claimed},
          {"reason", claim.reason},
          {"baseline", claim.baseline},
          {"claim_kind", name_of(claim.kind)},
          {"metrics", spec::to_json(claim.metrics)}};
}

Json to_json(const AaPair& pair) {
  Json result = {{"shape", pair.dims.json()}};
  for (const auto& [name, field] : kAaFields)
    if (std::isfinite(pair.*field)) result[name] = pair.*field;
  return result;
}

AaPair aa_from_json(const Json& value, const Sizes& sizes) {
  AaPair pair;
  pair.dims = dims_from_json(value.at("shape"), sizes);
  for (const auto& [name, field] : kAaFields) pair.*field = value.value(name, spec::kUnmeasured);
  return pair;
}

template <class Items>
Json list_of(const Items& items) {
  Json result = Json::array();
  for (const auto& item : items) result.push_back(to_json(item));
  return result;
}

}  // namespace

std::string to_line(const Finish& finish) {
  Json winners = Json::array();
  for (const Winner& winner : finish.winners)
    winners.push_back({{"shape", winner.dims.json()}, {"candidate_id", winner.candidate_id}});
  const Json object = {{"event", "finish"},        {"ts", finish.ts},
                       {"winners", winners},       {"claims", list_of(finish.claims)},
                       {"aa", list_of(finish.aa)}, {"seconds", finish.seconds},
                       {"tours", finish.tours},    {"notes", finish.notes}};
  return object.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Finish finish_from_json(const Json& value, const Sizes& sizes) {
  Finish finish;
  for (const Json& winner : value.value("winners", Json::array()))
    finish.winners.push_back(
        {dims_from_json(winner.at("shape"), sizes), winner.at("candidate_id").get<std::string>()});
  for (const Json& claim : value.value("claims", Json::array()))
    finish.claims.push_back(
        {dims_from_json(claim.at("shape"), sizes), claim.at("candidate_id").get<std::string>(),
         spec::metrics_from_json(claim.value("metrics", Json::object())),
         claim.value("claimed", false), claim.value("reason", ""), claim.value("baseline", ""),
         spec::parse_claim_kind(claim.value("claim_kind", "faster_than_mlx"))});
  for (const Json& pair : value.value("aa", Json::array()))
    finish.aa.push_back(aa_from_json(pair, sizes));
  if (const Json seconds = value.value("seconds", Json::object()); seconds.is_object())
    for (const auto& [name, one] : seconds.items())
      if (one.is_number()) finish.seconds[name] = one;
  finish.tours = value.value("tours", std::vector<std::vector<uint64_t>>());
  finish.notes = value.value("notes", Json::object());
  finish.ts = value.value("ts", "");
  return finish;
}

}  // namespace mlx_kd::archive
