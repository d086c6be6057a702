#include "mlx_kd/packs/merge/difference.h"

#include <cmath>
#include <map>
#include <utility>

namespace mlx_kd::packs {
namespace {

using Kind = Difference::Kind;

bool apart(const spec::Metrics& a, const spec::Metrics& b) {
  return a.speedup_hi < b.speedup_lo || b.speedup_hi < a.speedup_lo;  // false where one is NaN
}

std::optional<Kind> kind_of(const Entry& a, const Entry& b) {
  if (a.candidate_id != b.candidate_id || a.source_hash != b.source_hash) return Kind::kernel;
  if (a.protocol == b.protocol && apart(a.metrics, b.metrics)) return Kind::speedup;
  if (a.protocol != b.protocol || spec::to_json(a.metrics) != spec::to_json(b.metrics))
    return Kind::times;
  if (to_json(a) != to_json(b)) return Kind::other;
  return std::nullopt;
}

}  // namespace

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::only_a:
      return "only in A";
    case Kind::only_b:
      return "only in B";
    case Kind::kernel:
      return "kernel";
    case Kind::speedup:
      return "speed-up";
    case Kind::times:
      return "times";
    case Kind::other:
      return "other";
  }
  return "";
}

std::vector<Difference> difference(const Pack& a, const Pack& b) {
  std::map<PinOrder, std::pair<const Entry*, const Entry*>> pins;
  for (const Entry& entry : a.entries) pins[order_of(entry)].first = &entry;
  for (const Entry& entry : b.entries) pins[order_of(entry)].second = &entry;
  std::vector<Difference> result;
  for (const auto& [order, pin] : pins) {
    const auto& [in_a, in_b] = pin;
    if (!in_a)
      result.push_back({Kind::only_b, std::nullopt, *in_b});
    else if (!in_b)
      result.push_back({Kind::only_a, *in_a, std::nullopt});
    else if (const auto kind = kind_of(*in_a, *in_b))
      result.push_back({*kind, *in_a, *in_b});
  }
  return result;
}

}  // namespace mlx_kd::packs
