#include "mlx_kd/cli/replay.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "mlx_kd/archive/exchange/tuning_cache.h"
#include "mlx_kd/archive/exchange/tuning_run.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/archive/text.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kResamples = 400;
constexpr int kMedianResamples = 2000;
constexpr size_t kFinalists = 5;  // of a run, unless it states another number

// Runs work(0) .. work(count - 1) on all cores; the first exception is thrown again.
void on_all_cores(size_t count, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto labour = [&] {
    for (size_t i; (i = next++) < count;) try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
  };
  std::vector<std::thread> threads;
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  for (size_t i = 1; i < std::min(count, cores); ++i) threads.emplace_back(labour);
  labour();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool is_cache(const fs::path& path) {
  const std::string name = path.filename().string();
  return fs::is_regular_file(path) && !ends_with(name, ".T1.json") &&
         (ends_with(name, ".json") || ends_with(name, ".json.gz"));
}

std::string name_of(const fs::path& path) {
  std::string file = path.filename().string();
  for (const char* end : {".gz", ".json"})
    if (ends_with(file, end)) file.resize(file.size() - std::string(end).size());
  const std::string folder = fs::absolute(path).parent_path().filename().string();
  return folder + "/" + file;
}

std::vector<search::Observation> observations_for(const search::Recording& space,
                                                  const search::Recording& other) {
  std::vector<search::Observation> run;
  for (size_t i = 0; i < other.values.size(); ++i) {
    const size_t point = space.points.find(other.points.setting(i));
    const bool failed = std::isnan(other.values[i]);
    if (point < space.points.size())
      run.push_back({point, failed, failed ? 0 : search::fixed_log(other.values[i])});
  }
  return run;
}

std::string folder_of(const search::Recording& recording) {
  return recording.name.substr(0, recording.name.find('/'));
}

struct Scored {
  SpaceScore score;
  std::vector<double> resampled;
};

using Runs = std::vector<std::vector<search::Observation>>;

// What the other spaces of the folder say, where the request wants it.
Runs earlier_runs(const ReplayRequest& request, const std::vector<search::Recording>& all,
                  const search::Recording& recording) {
  Runs earlier;
  for (const search::Recording& other : all)
    if (request.warm && &other != &recording && folder_of(other) == folder_of(recording))
      earlier.push_back(observations_for(recording, other));
  return earlier;
}

std::unique_ptr<search::Strategy> strategy_for(const ReplayRequest& request,
                                               const search::Recording& recording,
                                               const Runs& earlier, uint64_t budget,
                                               uint64_t repeat) {
  search::StrategyOptions options;
  options.budget = budget;
  auto strategy =
      search::make_strategy(request.strategy, recording.points, options, request.seed + repeat);
  for (const auto& run : earlier) strategy->add_prior(run);
  return strategy;
}

// What the strategy of a repeat sees of a recording. Both it and the request must outlive it.
class Seen {
 public:
  Seen(const ReplayRequest& request, const search::Recording& recording, uint64_t repeat)
      : whole_(&recording) {
    if (request.once) once_ = search::measured_once(recording, request.seed + repeat);
  }
  const search::Recording& operator()() const { return once_ ? *once_ : *whole_; }

 private:
  const search::Recording* whole_;
  std::optional<search::Recording> once_;
};

Regret regret_at(const ReplayRequest& request, const search::Recording& recording,
                 const Runs& earlier, uint64_t budget) {
  std::vector<double> regrets;
  for (uint64_t repeat = 0; repeat < request.repeats; ++repeat) {
    const auto strategy = strategy_for(request, recording, earlier, budget, repeat);
    const Seen seen(request, recording, repeat);
    const auto walk = search::replay_evaluations(*strategy, seen(), budget, request.batch);
    regrets.push_back(request.once
                          ? search::regret_of_finalists(recording, seen(), walk, kFinalists)
                          : search::regret(recording, walk));
  }
  const auto interval = evaluate::bootstrap_median(regrets, kMedianResamples, request.seed);
  const auto known = [](double share) { return std::isnan(share) ? HUGE_VAL : share; };
  return {budget, known(interval.middle), known(interval.lo), known(interval.hi)};
}

Scored replay_space(const ReplayRequest& request, const std::vector<search::Recording>& all,
                    size_t which) {
  const search::Recording& recording = all[which];
  const search::Scorer scorer(recording);
  const Runs earlier = earlier_runs(request, all, recording);
  const auto planned = static_cast<uint64_t>(std::ceil(scorer.evaluations()));
  search::Scorer::Walks walks;
  for (uint64_t repeat = 0; repeat < request.repeats; ++repeat) {
    const auto strategy = strategy_for(request, recording, earlier, planned, repeat);
    const Seen seen(request, recording, repeat);
    walks.push_back(search::replay(*strategy, seen(), scorer.budget(), request.batch));
  }
  Scored scored;
  scored.resampled = scorer.resampled(walks, kResamples, request.seed);
  const auto valid = std::count_if(recording.values.begin(), recording.values.end(),
                                   [](double value) { return !std::isnan(value); });
  scored.score = {recording.name,
                  recording.points.size(),
                  static_cast<size_t>(valid),
                  scorer.evaluations(),
                  scorer.random_evaluations(),
                  scorer.score(walks),
                  0,
                  0,
                  scorer.curve(walks),
                  {},
                  scorer.too_few()};
  for (uint64_t budget : request.budgets)
    scored.score.regrets.push_back(regret_at(request, recording, earlier, budget));
  return scored;
}

// The 95 % interval of samples.
std::pair<double, double> interval_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const size_t tail = samples.size() / 40;
  return {samples[tail], samples[samples.size() - 1 - tail]};
}

void check(const ReplayRequest& request) {
  if (request.repeats == 0)
    base::misuse("cli", "--repeats is 0: replay at least once, 25 times for a score to report");
  if (request.batch == 0) base::misuse("cli", "--batch is 0: give at least 1");
  if (std::count(request.budgets.begin(), request.budgets.end(), 0))
    base::misuse("cli", "--budgets names 0: give numbers of evaluations, such as 50,200");
  const auto& known = search::strategy_names();
  if (std::find(known.begin(), known.end(), request.strategy) == known.end())
    base::misuse("cli",
                 "strategy '" + request.strategy + "' is unknown: use " + base::list_of(known));
}

}  // namespace

Sanity sanity_of(const ReplayRequest& request, const ReplayScores& scores) {
  constexpr double kRounding = 1e-9, kAboutZero = 0.15;
  constexpr uint64_t kEnoughRepeats = 25, kEnoughEvaluations = 100;
  Sanity sanity;
  for (const SpaceScore& space : scores.spaces) {
    const std::string score = space.name + " scores " + archive::number(space.score);
    if (space.score > 1 + kRounding) sanity.above_one.push_back(score + ", and 1 is the optimum");
    if (request.strategy != "random" || request.repeats < kEnoughRepeats ||
        space.random_evaluations < kEnoughEvaluations)
      continue;
    sanity.random_was_asked = true;
    if (space.lo > kAboutZero || space.hi < -kAboutZero)
      sanity.random_off_zero.push_back(score + " by random search, which is 0 by definition");
  }
  return sanity;
}

search::Recording load_recording(const fs::path& path) {
  const archive::TuningCache cache =
      archive::is_run_dir(path) ? archive::measured_space(archive::read_run(path), path.string())
                                : archive::read_tuning_cache(path);
  search::Recording recording{
      name_of(path), search::Points::listed(cache.space, cache.points), {}, {}, {}};
  recording.values.resize(recording.points.size());
  recording.costs.resize(recording.points.size());
  recording.runs.resize(recording.points.size());
  for (size_t i = 0; i < cache.points.size(); ++i) {
    const size_t point = recording.points.find(cache.points[i]);
    recording.values[point] = cache.times[i];
    recording.costs[point] = cache.costs[i];
    recording.runs[point] = cache.runs[i];
  }
  return recording;
}

std::vector<fs::path> find_recordings(const fs::path& place) {
  std::vector<fs::path> found;
  if (is_cache(place) || archive::is_run_dir(place)) return {place};
  if (fs::is_directory(place))
    for (auto it = fs::recursive_directory_iterator(place); it != fs::end(it); ++it) {
      const bool run = it->is_directory() && archive::is_run_dir(it->path());
      if (run) it.disable_recursion_pending();
      if (run || is_cache(it->path())) found.push_back(it->path());
    }
  if (found.empty())
    base::misuse("cli", "'" + place.string() +
                            "' holds no recorded space: give a folder of Kernel Tuner caches "
                            "(.json, .json.gz) or run directories");
  std::sort(found.begin(), found.end());
  return found;
}

ReplayScores replay_spaces(const ReplayRequest& request,
                           const std::function<void(const SpaceScore&)>& done) {
  check(request);
  const std::vector<fs::path> paths = find_recordings(request.spaces);
  std::vector<std::unique_ptr<search::Recording>> loaded(paths.size());
  on_all_cores(paths.size(), [&](size_t i) {
    loaded[i] = std::make_unique<search::Recording>(load_recording(paths[i]));
  });
  std::vector<search::Recording> recordings;
  for (auto& recording : loaded) recordings.push_back(std::move(*recording));
  std::vector<Scored> scored(recordings.size());
  std::mutex mutex;
  on_all_cores(recordings.size(), [&](size_t i) {
    scored[i] = replay_space(request, recordings, i);
    const auto [lo, hi] = interval_of(scored[i].resampled);
    scored[i].score.lo = lo;
    scored[i].score.hi = hi;
    const std::lock_guard lock(mutex);
    done(scored[i].score);
  });
  ReplayScores scores;
  std::vector<double> means(kResamples);
  for (Scored& one : scored) {
    const double share = 1.0 / static_cast<double>(scored.size());
    scores.mean += share * one.score.score;
    for (size_t i = 0; i < kResamples; ++i) means[i] += share * one.resampled[i];
    scores.spaces.push_back(std::move(one.score));
  }
  std::tie(scores.lo, scores.hi) = interval_of(means);
  return scores;
}

}  // namespace mlx_kd::cli
