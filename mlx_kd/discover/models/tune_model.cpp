#include "mlx_kd/discover/models/tune_model.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/models/tune_report.h"
#include "mlx_kd/discover/models/tune_state.h"
#include "mlx_kd/discover/models/tune_trial.h"
#include "mlx_kd/discover/models/tune_winners.h"
#include "mlx_kd/packs/merge/merge_runs.h"
#include "mlx_kd/spec/op/rows.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;

constexpr double kSlowCall = 0.05;         // s of MLX: evaluate's protocol takes few pairs then
constexpr double kProofCalls = 10;         // of MLX, for a size: references, and its better form
constexpr double kClaimPairs = 6;          // that a slow claim takes
constexpr double kLongestClaim = 3;        // s of a claim that is not slow
constexpr double kShareOfClaims = 0.5;     // of a search's time, at most
constexpr double kSecondsPerKernel = 0.4;  // that is tried, beside its samples
constexpr double kSamples = 20;            // of a size, of both sides of pairs, about
constexpr uint64_t kFewKernels = 12;       // a range is left out where fewer would be tried
constexpr double kSecondsPerBatch = 4;     // a search ends after a batch
constexpr double kMostOfBatch = 8;
constexpr uint64_t kMostKernels = 400;
constexpr double kBytesPerUs = 5e3;        // of a use whose default kernel did not pass
constexpr double kLeastSearch = 2;         // times the seconds of the default's run
constexpr double kShareOfTrial = 1.0 / 6;  // of the budget
constexpr double kLongestTrial = 300;      // s
constexpr double kLeastTrial = 1;
constexpr double kStartOfTrial = 45;  // s of it: Python makes models, twice; kernels are compiled

// The stages of a run, with the use that it is of.
class OfUse : public Listener {
 public:
  OfUse(const ModelUse& use, Listener& inner) : name_(use.name), inner_(inner) {}
  void stage(const std::string& what) override { inner_.stage(name_ + ": " + what); }
  void trying(const spec::Candidate& candidate, uint64_t number) override {
    inner_.trying(candidate, number);
  }
  void evaluated(const Step& step) override { inner_.evaluated(step); }
  void note(const std::string& message) override { inner_.note(name_ + ": " + message); }

 private:
  std::string name_;
  Listener& inner_;
};

// Of a run in which no kernel passed, the last verdict.
std::string why_none(const fs::path& folder) {
  const archive::RunData run = archive::read_run(folder);
  if (run.records.empty()) return "no kernel was tried";
  const spec::Verdict& verdict = run.records.back().verdict;
  return "no kernel passed: " + spec::name_of(verdict.status) +
         (verdict.reason.empty() ? "" : ", " + verdict.reason);
}

class Tuning {
 public:
  Tuning(const TuneRequest& request, Listener& listener, Interrupt& interrupt)
      : request_(request), listener_(listener), interrupt_(interrupt), state_(request) {}

  TuneOutcome run() {
    for (const ModelUse& use : request_.uses.uses)
      if (!interrupt_.raised() && !state_.of(use).by_default) try_default(use);
    search_all();
    const TuneWinners winners(request_, state_);
    TuneOutcome outcome = conclude(winners, tried(winners));
    state_.save();
    return outcome;
  }

 private:
  RunRequest run_request(const ModelUse& use, const char* run) const {
    RunRequest result;
    result.from_default = true;
    result.claim_processes = 1;  // what counts is the model's speed, which promotion measures
    result.op_name = use.op->name;
    result.device = request_.device;
    result.dtype = request_.dtype;
    result.seed = request_.seed;
    result.allow_approximate = request_.allow_approximate;
    result.out = state_.folder(use, run);
    result.resume = true;
    return result;
  }

  // nullopt where it was interrupted. What is misuse for one operator (no kernel for the
  // device or type) leaves that one; a folder that cannot go on, or a compiler that cannot be used,
  // does not.
  std::optional<UseRun> run_use(const ModelUse& use, const RunRequest& request) {
    const int64_t start = base::steady_ns();
    OfUse listener(use, listener_);
    try {
      const RunOutcome outcome = discover::run(request, listener, interrupt_);
      if (outcome.interrupted) return std::nullopt;
      UseRun found = use_run(outcome, base::seconds_since(start));
      if (outcome.benchmarked == 0) found.left = why_none(request.out);
      return found;
    } catch (const base::Error& error) {
      const std::string why = error.what();
      const bool is_of_all = why.rfind("[archive]", 0) == 0 || why.rfind("[devices]", 0) == 0;
      if (error.exit_code() != 2 || is_of_all) throw;
      UseRun left;
      left.left = why;
      return left;
    }
  }

  void try_default(const ModelUse& use) {
    RunRequest request = run_request(use, kDefaultRun);
    request.sizes = shapes::Sizes{"model:" + use.name, {use.sizes.front()}};
    request.ranges = use.ranges;
    request.budget = request.batch = request.finalists = 1;
    if (const auto found = run_use(use, request)) state_.of(use).by_default = *found;
    state_.save();
  }

  // Seconds of a prompt and as many decoded tokens, with default kernels: what searches may
  // shorten.
  double weight(const ModelUse& use) const {
    const UseRun& found = *state_.find(use)->by_default;
    if (found.evaluated == 0) return 0;  // there is no kernel to search among
    const double us =
        std::isfinite(found.us)
            ? found.us
            : spec::cost_of(*use.op, use.sizes.front(), request_.dtype).bytes / kBytesPerUs;
    const double tokens =
        use.prompt ? 1 : static_cast<double>(std::max<int64_t>(1, request_.sizes.prompt));
    return 1e-6 * us * static_cast<double>(use.calls) * tokens;
  }

  void search_all() {
    std::vector<const ModelUse*> open;
    for (const ModelUse& use : request_.uses.uses)
      if (const UseState& state = state_.of(use); state.by_default && weight(use) > 0)
        if (!state.search || state.search->of_budget_s < request_.time_budget_s)
          open.push_back(&use);
    std::stable_sort(open.begin(), open.end(),
                     [&](const ModelUse* a, const ModelUse* b) { return weight(*a) > weight(*b); });
    double weights = 0;
    for (const ModelUse* use : open) weights += weight(*use);
    for (const ModelUse* use : open) {
      if (interrupt_.raised()) return;
      const double left = request_.time_budget_s - trial_s() - state_.seconds();
      search(*use, left * weight(*use) / weights);
      weights -= weight(*use);
      state_.save();
    }
  }

  // Seconds of the default's run, for a size of it.
  double default_s(const ModelUse& use) const {
    const auto sizes =
        shapes::with_ranges(*use.op, {use.name, {use.sizes.front()}}, use.ranges).sizes;
    return state_.find(use)->by_default->seconds / static_cast<double>(sizes.size());
  }

  bool is_slow(const ModelUse& use) const {
    return 1e-6 * state_.find(use)->by_default->mlx_us > kSlowCall;
  }

  // Seconds of a call of MLX with this size, in proportion to the first.
  double mlx_s(const ModelUse& use, const spec::Dims& size) const {
    return 1e-6 * state_.find(use)->by_default->mlx_us * times_of_first(use, size);
  }

  // How many times the work of the first size a size is.
  static double times_of_first(const ModelUse& use, const spec::Dims& size) {
    const spec::Dims& first = use.sizes.front();
    double result = 1;
    for (const std::string& dim : std::set{use.op->batch_dim, spec::rows_dim(*use.op)})
      result *= static_cast<double>(size.at(dim)) / static_cast<double>(first.at(dim));
    return result;
  }

  // Seconds that the proof and claims of sizes take, for each of which MLX runs: once for all of
  // those whose claims take its time in proportion to the same few rows.
  double claims_s(const ModelUse& use, const std::vector<spec::Dims>& sizes,
                  uint64_t finalists) const {
    const int64_t few = spec::mlx_rows_of(*use.op, request_.dtype);
    const auto count = static_cast<double>(finalists);
    const double own_s = std::min(kLongestClaim, default_s(use)) * count;
    double result = 0;
    std::set<std::string> known;
    for (const spec::Dims& size : sizes) {
      result += own_s;
      if (mlx_s(use, size) <= kSlowCall) continue;
      const spec::Dims run = few > 0 ? spec::with_rows(*use.op, size, few) : size;
      if (run == size || known.insert(run.text()).second)
        result += mlx_s(use, run) * (kProofCalls + kClaimPairs * count);
    }
    return result;
  }

  // The first size, and further ones and a range as far as their claims fit.
  SearchPlan plan(const ModelUse& use, double seconds) const {
    SearchPlan plan;
    plan.finalists = is_slow(use) ? 1 : 2;
    const auto fits = [&](const std::vector<spec::Dims>& sizes) {
      return claims_s(use, sizes, plan.finalists) <= kShareOfClaims * seconds;
    };
    for (const spec::Dims& size : use.sizes) {
      std::vector<spec::Dims> more = plan.sizes;
      more.push_back(size);
      if (plan.sizes.empty() || fits(more)) plan.sizes = more;
    }
    const auto ranged = shapes::with_ranges(*use.op, {use.name, plan.sizes}, use.ranges);
    const auto tried = [&](const std::vector<spec::Dims>& sizes) {
      return kernels_in(use, sizes, seconds - claims_s(use, sizes, plan.finalists));
    };
    if (!use.ranges.empty() && fits(ranged.sizes) && tried(ranged.sizes) >= kFewKernels)
      plan.ranges = use.ranges;
    plan.budget = std::max<uint64_t>(4, tried(ranged_sizes(use, plan)));
    return plan;
  }

  // Seconds in which a kernel is tried at all sizes, if it is about as fast as the default.
  double kernel_s(const ModelUse& use, const std::vector<spec::Dims>& sizes) const {
    const double us = state_.find(use)->by_default->us;
    if (!std::isfinite(us)) return kSecondsPerKernel;
    double times = 0;
    for (const spec::Dims& size : sizes) times += times_of_first(use, size);
    return kSecondsPerKernel + kSamples * 1e-6 * us * times;
  }

  uint64_t kernels_in(const ModelUse& use, const std::vector<spec::Dims>& sizes,
                      double seconds) const {
    return static_cast<uint64_t>(
        std::clamp(seconds / kernel_s(use, sizes), 0.0, double(kMostKernels)));
  }

  static std::vector<spec::Dims> ranged_sizes(const ModelUse& use, const SearchPlan& plan) {
    return shapes::with_ranges(*use.op, {use.name, plan.sizes}, plan.ranges).sizes;
  }

  void search(const ModelUse& use, double seconds) {
    std::optional<SearchPlan>& search = state_.of(use).search;
    const bool is_open = search && !search->found;
    const double least = kLeastSearch * default_s(use);
    if (!is_open && seconds < least) return;
    if (!search)
      search = plan(use, seconds);
    else if (!is_open)
      search->budget += kernels_in(use, ranged_sizes(use, *search), seconds);
    state_.save();
    RunRequest request = run_request(use, kSearchRun);
    request.sizes = shapes::Sizes{"model:" + use.name, search->sizes};
    request.ranges = search->ranges;
    request.budget = search->budget;
    request.finalists = search->finalists;
    const std::vector<spec::Dims> sizes = ranged_sizes(use, *search);
    request.batch = static_cast<uint64_t>(
        std::clamp(kSecondsPerBatch / kernel_s(use, sizes), 1.0, kMostOfBatch));
    const double claims = claims_s(use, sizes, search->finalists);
    request.time_budget_s = std::max(0.1, seconds - claims);
    const auto found = run_use(use, request);
    if (!found) return;
    search->found = *found;
    search->of_budget_s = request_.time_budget_s;
  }

  // --- the trial in the model ---

  std::string why_no_trial() const {
    if (request_.python.empty()) return "the model's code was not run";
    if (request_.device != "cpu") return "it is made on a CPU alone";
    return "";
  }

  // Seconds of the budget that searches leave to it.
  double trial_s() const {
    return why_no_trial().empty() ? std::min(kLongestTrial, kShareOfTrial * request_.time_budget_s)
                                  : 0;
  }

  // The trial of these winners, made now or by an earlier call, or why there is none.
  ModelTrial tried(const TuneWinners& winners) {
    if (const std::string why = why_no_trial(); !why.empty()) return {.why_not = why};
    const std::string text = winners.text_of_tried();
    std::optional<ModelTrial>& known = state_.trial();
    const bool is_open = !known || known->winners != text || !known->was_made() ||
                         known->of_budget_s < request_.time_budget_s;
    if (is_open && !interrupt_.raised()) {
      listener_.stage("kernels in turn inside the model");
      const double seconds = std::max(kLeastTrial, trial_s() - kStartOfTrial);
      auto made = run_model_trial({request_.python, request_.config, request_.sizes, request_.dtype,
                                   request_.seed, seconds, &interrupt_.flag()},
                                  winners);
      if (made) {
        made->of_budget_s = request_.time_budget_s;
        known = std::move(made);
      }
    }
    if (known && known->winners != text) known.reset();
    if (known) return *known;
    // It was interrupted: no winner is in the pack yet.
    return {.winners = text, .passes = std::vector<PassTrial>(passes_of(request_.sizes).size())};
  }

  // --- what was found ---

  static const PassTrial& main_pass(const ModelUse& use, const ModelTrial& trial) {
    return use.prompt ? trial.passes.back() : trial.passes.front();
  }

  UseResult result_of(const ModelUse& use, const TuneWinners& winners,
                      const ModelTrial& trial) const {
    UseResult result;
    result.use = &use;
    const UseState* state = state_.find(use);
    if (!state || !state->by_default) {
      result.left = "it was not reached";
      return result;
    }
    const bool searched = state->search && state->search->found;
    bool gained = searched && winners.gained(use, trial.was_made() ? kLeastTried : kLeastGain);
    if (trial.was_made()) {
      const PassTrial& pass = main_pass(use, trial);
      gained = gained && pass.kept.count(use.name);
      if (const auto alone = pass.alone.find(use.name); alone != pass.alone.end())
        result.in_model = alone->second;
    }
    const UseRun& run = gained ? *state->search->found : *state->by_default;
    result.mlx_us = run.mlx_us, result.us = run.us;
    result.default_us = state->by_default->us;
    result.speedup_lo = run.speedup_lo, result.speedup_hi = run.speedup_hi;
    result.pinned = run.won, result.searched = searched, result.is_default = !gained;
    result.candidate_id = run.candidate_id, result.knobs = run.knobs, result.left = run.left;
    if (trial.was_made() && !main_pass(use, trial).has_pins) {
      result.pinned = false;
      result.left = "in the model the pack was slower than none";
    }
    result.evaluated =
        state->by_default->evaluated + (searched ? state->search->found->evaluated : 0);
    return result;
  }

  void write_pack(const TuneWinners& winners, TuneOutcome& outcome) const {
    const fs::path file = request_.out / "pack.json";
    outcome.has_pack = request_.device != "null";
    if (!outcome.has_pack) return;
    packs::Pack pack = outcome.trial.was_made() ? winners.pack_of_kept(outcome.trial.kept(),
                                                                       outcome.trial.without_pins())
                                                : winners.pack_by_gain();
    outcome.pins = pack.entries.size();
    if (pack.entries.empty()) return packs::write_pack(file, pack);
    packs::write_merged(std::move(pack), file);
  }

  TuneOutcome conclude(const TuneWinners& winners, const ModelTrial& trial) const {
    TuneOutcome outcome;
    outcome.interrupted = interrupt_.raised();
    outcome.trial = trial;
    for (const ModelUse& use : request_.uses.uses)
      outcome.uses.push_back(result_of(use, winners, trial));
    write_pack(winners, outcome);
    outcome.seconds = state_.seconds();
    base::write_file_atomically(request_.out / "report.json",
                                tune_report_json(request_, outcome).dump(2, ' ', true) + "\n",
                                "discover");
    base::write_file_atomically(request_.out / "report.html", tune_report_html(request_, outcome),
                                "discover");
    return outcome;
  }

  const TuneRequest& request_;
  Listener& listener_;
  Interrupt& interrupt_;
  TuneState state_;
};

}  // namespace

double UseResult::before_s() const {
  if (use->calls == 0) return 0;  // measured or not
  return 1e-6 * mlx_us * static_cast<double>(use->calls);
}

double UseResult::after_s() const {
  return pinned ? 1e-6 * us * static_cast<double>(use->calls) : before_s();
}

TuneOutcome tune_model(const TuneRequest& request, Listener& listener, Interrupt& interrupt) {
  if (!(request.time_budget_s > 0))
    base::misuse("discover", "a time budget of 0 tunes nothing: give --time-budget 10m, say");
  devices::open_device(request.device);  // misuse before anything is written
  return Tuning(request, listener, interrupt).run();
}

}  // namespace mlx_kd::discover
