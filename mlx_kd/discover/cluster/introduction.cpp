#include "mlx_kd/discover/cluster/introduction.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {
namespace {

constexpr size_t kNamed = 3, kShown = 200;  // ranks, and characters of a value, in a message

std::string rank_text(const std::vector<ProcessName>& processes, size_t rank) {
  return "rank " + std::to_string(rank) + " on " + processes[rank].host;
}

std::string sizes_of_run(const std::vector<spec::Dims>& sizes) {
  std::string text;
  for (const spec::Dims& size : sizes) text += (text.empty() ? "" : "; ") + size.text();
  return text;
}

// Knobs, their values, how many points, and the source of each variant: ranks name points by their
// numbers, and kernels of other text are other kernels.
std::string space_digest(const RunSetup& setup) {
  base::Json text = {setup.points.size()};
  for (const spec::Knob& knob : setup.points.space().knobs)
    text.push_back({knob.name, knob.values, knob.labels});
  const bool joined = setup.space.variants().size() > 1;  // then the first knob names the variant
  std::vector<bool> seen(setup.space.variants().size());
  for (size_t point = 0; point < (joined ? setup.points.size() : 1); ++point) {
    const size_t variant = joined ? setup.points.value_index(point, 0) : 0;
    if (seen[variant]) continue;
    seen[variant] = true;
    text.push_back(setup.space.candidate(setup.points.setting(point)).source_hash());
  }
  return base::sha256_hex(base::canonical_json(text)).substr(0, 16);
}

// "budget ('400' and '200')", of all in which b differs from a.
std::string differences(const base::Json& a, const base::Json& b) {
  std::string text;
  for (const auto& [what, value] : a.items()) {
    const base::Json other = b.value(what, base::Json(""));
    if (other != value)
      text += (text.empty() ? "" : ", ") + what + " ('" +
              value.get<std::string>().substr(0, kShown) + "' and '" +
              other.get<std::string>().substr(0, kShown) + "')";
  }
  return text;
}

class Misfits {
 public:
  explicit Misfits(const std::vector<ProcessName>& processes) : processes_(processes) {}
  void compare(size_t first, const base::Json& theirs, size_t rank, const base::Json& own) {
    const std::string text = differences(theirs, own);
    if (text.empty()) return;
    if (++count_ > kNamed) return;
    list_ += (list_.empty() ? "" : "; ") + rank_text(processes_, first) + " and " +
             rank_text(processes_, rank) + " differ in " + text;
  }
  void refuse() const {
    if (count_ == 0) return;
    const std::string more =
        count_ > kNamed ? "; and " + std::to_string(count_ - kNamed) + " more" : "";
    base::misuse("discover",
                 list_ + more + ": start all ranks with the same command and the same versions");
  }

 private:
  const std::vector<ProcessName>& processes_;
  size_t count_ = 0;
  std::string list_;
};

void refuse_idle(const Kind& kind, const Introduction& introduction) {
  const uint64_t work = std::min(introduction.budget, introduction.points);
  if (kind.ranks.size() <= work) return;
  base::misuse("discover", std::to_string(kind.ranks.size()) + " ranks share a budget of " +
                               std::to_string(introduction.budget) + " in a space of " +
                               std::to_string(introduction.points) +
                               " kernels, so some would have nothing to "
                               "do: start at most " +
                               std::to_string(work) + ", or give a larger --budget");
}

}  // namespace

Introduction introduction_of(const RunRequest& request, const RunSetup& setup) {
  Introduction result;
  base::Json options = setup.meta.options;
  options.erase("prove_on");  // belongs to the device
  const base::Json runtime = setup.evaluator->runtime();
  result.alike = {{"mlx-kd version", base::version()},
                  {"MLX version", runtime.value("mlx_version", "")},
                  {"operator", request.op_name},
                  {"type", setup.meta.dtype},
                  {"sizes", sizes_of_run(setup.sizes.sizes)},
                  {"suite", setup.sizes.suite_name},
                  {"seed", std::to_string(request.seed)},
                  {"budget", std::to_string(request.budget)},
                  {"finalists", std::to_string(request.finalists)},
                  {"--resume", request.resume ? "given" : "not given"},
                  {"options", options.dump()}};
  for (const char* key : {"device_kind", "device_name", "device_arch", "target"})
    result.device[key] = runtime.value(key, base::Json());
  result.device_alike = {{"measuring protocol", setup.evaluator->protocol().dump()},
                         {"space of kernels", space_digest(setup)}};
  result.budget = request.budget;
  result.points = setup.points.size();
  return result;
}

std::string to_text(const Introduction& introduction) {
  return base::Json({{"alike", introduction.alike},
                     {"device", introduction.device},
                     {"device_alike", introduction.device_alike},
                     {"budget", introduction.budget},
                     {"points", introduction.points}})
      .dump();
}

namespace {

// A member that is an object of texts.
const base::Json& texts_at(const base::Json& value, const char* name) {
  for (const auto& one : value.at(name).get_ref<const base::Json::object_t&>())
    one.second.get_ref<const std::string&>();
  return value.at(name);
}

}  // namespace

Introduction introduction_from(const std::string& text) try {
  const base::Json value = base::parse_json(text, "discover", "what a rank says of itself");
  return {texts_at(value, "alike"), value.at("device"), texts_at(value, "device_alike"),
          spec::count_of(value.at("budget")), spec::count_of(value.at("points"))};
} catch (const base::Json::exception&) {
  base::misuse("discover",
               "a rank introduces itself in another way: start all ranks with the same mlx-kd");
}

std::vector<Kind> kinds_of(const std::vector<Introduction>& introductions,
                           const std::vector<ProcessName>& processes) {
  std::vector<Kind> kinds;
  Misfits misfits(processes);
  for (size_t rank = 0; rank < introductions.size(); ++rank) {
    const Introduction& own = introductions[rank];
    misfits.compare(0, introductions[0].alike, rank, own.alike);
    auto kind = std::find_if(kinds.begin(), kinds.end(),
                             [&](const Kind& one) { return one.device == own.device; });
    if (kind == kinds.end()) {
      const std::string digest = base::sha256_hex(base::canonical_json(own.device));
      kind = kinds.insert(kinds.end(), {own.device, digest.substr(0, 8), {}});
    }
    kind->ranks.push_back(static_cast<int>(rank));
    const auto first = static_cast<size_t>(kind->ranks.front());
    misfits.compare(first, introductions[first].device_alike, rank, own.device_alike);
  }
  misfits.refuse();
  for (const Kind& kind : kinds)
    refuse_idle(kind, introductions[static_cast<size_t>(kind.ranks.front())]);
  return kinds;
}

}  // namespace mlx_kd::discover
