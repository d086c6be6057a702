#include "mlx_kd/discover/models/tune_trial.h"

#include <algorithm>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/discover/models/model_code.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;
using base::Json;

// Times of calls of the model, us: by pack, then by round.
using Times = std::vector<std::vector<double>>;

constexpr double kShareOfFirst = 0.6;   // of the seconds; the rest confirms
constexpr double kLongestBeyond = 180;  // seconds beyond those: of models, and of least rounds
constexpr double kPromptSteps = 3;      // a sample of a prompt counts as so many of steps
constexpr int64_t kLeastContext = 64;   // tokens before a step of decoding
constexpr const char* kAsPatched = "";  // the pins that mlx_kd.patch takes without a pack

// The packs that take turns in a pass: files.
struct Turns {
  size_t pass;
  std::vector<std::string> packs;
};

class Trials {
 public:
  Trials(const TrialRequest& request, const TuneWinners& winners)
      : request_(request), winners_(winners), sizes_(passes_of(request.sizes)) {
    base::write_file_atomically(scratch_.file("config.json"),
                                request.config.dump(2, ' ', true) + "\n", "discover");
    const UsesByPass tried = winners.to_try();
    for (size_t i = 0; i < sizes_.size(); ++i) trial_.passes.push_back({.tried = tried[i]});
    trial_.winners = winners.text_of_tried();
  }

  // Throws what a trial that failed says.
  ModelTrial run() {
    const int64_t start = base::steady_ns();
    first();
    second();
    trial_.seconds = base::seconds_since(start);
    return trial_;
  }

 private:
  // Default kernels, the winners of all uses, and in the first pass of a kind those of each.
  void first() {
    std::vector<Turns> turns;
    const std::string defaults = pack(none()), all = pack(of_all());
    for (size_t i = 0; i < sizes_.size(); ++i) {
      const auto& tried = trial_.passes[i].tried;
      if (tried.empty()) continue;
      turns.push_back({i, {defaults, all}});
      if (!has_each(i)) continue;
      for (const std::string& use : tried) turns.back().packs.push_back(pack(of_use(use)));
    }
    if (turns.empty()) return;
    const std::vector<Times> times = samples(turns, kShareOfFirst);
    for (size_t i = 0; i < turns.size(); ++i) take_first(times.at(i), turns[i].pass);
  }

  void take_first(const Times& times, size_t at) {
    PassTrial& pass = trial_.passes[at];
    pass.together = gain_of(times.at(1), times.at(0));
    size_t i = 2;
    for (const std::string& use : pass.tried)
      if (has_each(at))
        pass.alone[use] = gain_of(times.at(i++), times.at(0));
      else if (is_first_of_kind(at))  // it is the only one
        pass.alone[use] = pass.together;
    pass.kept = worth_keeping(pass);
  }

  // What mlx_kd.patch runs without a pack, default kernels as pins, and what the first trial left:
  // in the first pass of a kind, and where winners are left.
  void second() {
    const std::string defaults = pack(none()), left = pack(trial_.kept());
    std::vector<Turns> turns;
    for (size_t i = 0; i < sizes_.size(); ++i) {
      const bool has_winners = !trial_.passes[i].kept.empty();
      if (!has_winners && !is_first_of_kind(i)) continue;
      turns.push_back({i, {kAsPatched, defaults}});
      if (has_winners) turns.back().packs.push_back(left);
    }
    const std::vector<Times> times = samples(turns, 1 - kShareOfFirst);
    for (size_t i = 0; i < turns.size(); ++i) take_second(times.at(i), turns[i].pass);
  }

  void take_second(const Times& times, size_t at) {
    PassTrial& pass = trial_.passes[at];
    if (!pass.kept.empty()) pass.pack = gain_of(times.at(2), times.at(1));
    if (!pass.kept.empty() && (is_first_of_kind(at) ? !(pass.pack.ratio >= 1) : pass.pack.hi < 1))
      pass.kept.clear();
    pass.over_patch = gain_of(times.at(pass.kept.empty() ? 1 : 2), times.at(0));
    pass.has_pins = !is_first_of_kind(at) || pass.over_patch.hi >= 1;
    if (!pass.has_pins) pass.kept.clear();
  }

  // --- packs ---

  UsesByPass none() const { return UsesByPass(sizes_.size()); }
  UsesByPass of_use(const std::string& use) const { return UsesByPass(sizes_.size(), {use}); }

  UsesByPass of_all() const {
    std::set<std::string> all;
    for (const PassTrial& pass : trial_.passes) all.insert(pass.tried.begin(), pass.tried.end());
    return UsesByPass(sizes_.size(), all);
  }

  std::string pack(const UsesByPass& kept) {
    const fs::path file = scratch_.file("pack" + std::to_string(packs_++) + ".json");
    packs::write_pack(file, winners_.pack_of_kept(kept));
    return file.string();
  }

  bool is_first_of_kind(size_t pass) const { return pass == 0 || sizes_[pass].prompt; }
  bool has_each(size_t pass) const {
    return trial_.passes[pass].tried.size() > 1 && is_first_of_kind(pass);
  }

  // --- samples ---

  double weight(const Turns& turns) const {
    return static_cast<double>(turns.packs.size()) * (sizes_[turns.pass].prompt ? kPromptSteps : 1);
  }

  std::vector<Times> samples(const std::vector<Turns>& all, double share) {
    double weights = 0;
    for (const Turns& turns : all) weights += weight(turns);
    const fs::path out = scratch_.file("times.json");
    Json request = {{"config", scratch_.file("config.json").string()},
                    {"dtype", spec::name_of(request_.dtype)},
                    {"seed", request_.seed},
                    {"out", out.string()},
                    {"passes", Json::array()}};
    for (const Turns& turns : all)
      request["passes"].push_back(
          {{"tokens", sizes_[turns.pass].tokens},
           {"context",
            sizes_[turns.pass].prompt ? 0 : std::max(request_.sizes.prompt, kLeastContext)},
           {"seconds", share * request_.seconds * weight(turns) / weights},
           {"packs", turns.packs}});
    const std::string why = run_model_code(request_.python, "model_trial", request,
                                           request_.seconds + kLongestBeyond, request_.cancelled);
    if (!why.empty()) throw Failed{why};
    return base::parse_json(base::read_file(out, "discover"), "discover", out.string())
        .get<std::vector<Times>>();
  }

 public:
  struct Failed {
    std::string why;
  };

 private:
  const TrialRequest& request_;
  const TuneWinners& winners_;
  const std::vector<ModelPass> sizes_;
  const base::ScratchFolder scratch_{"discover"};
  ModelTrial trial_;
  size_t packs_ = 0;
};

}  // namespace

std::optional<ModelTrial> run_model_trial(const TrialRequest& request, const TuneWinners& winners) {
  try {
    return Trials(request, winners).run();
  } catch (const Trials::Failed& failed) {
    if (request.cancelled && *request.cancelled) return std::nullopt;
    ModelTrial trial;
    trial.winners = winners.text_of_tried();
    trial.why_not = failed.why;
    return trial;
  }
}

}  // namespace mlx_kd::discover
