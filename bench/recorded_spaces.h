// Recorded spaces to replay settings of the default strategy on, on several cores.
#pragma once

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "mlx_kd/archive/exchange/tuning_cache.h"
#include "mlx_kd/search/replay/score.h"
#include "mlx_kd/search/strategy/tour_search.h"

namespace mlx_kd::bench {

inline double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value / static_cast<double>(values.size());
  return sum;
}

class RecordedSpaces {
 public:
  using Walks = std::vector<search::Scorer::Walks>;  // one list a space
  using Samples = std::vector<std::vector<double>>;  // bootstrap scores, one list a space

  // Of every <kernel>/<device>.json.gz under the folder.
  RecordedSpaces(const std::filesystem::path& folder, size_t jobs) : jobs_(jobs) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.path().extension() == ".gz") paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    recordings_.reserve(paths.size());
    for (const auto& path : paths) recordings_.push_back(load(path));
    for (const auto& recording : recordings_) scorers_.emplace_back(recording);
  }

  size_t size() const { return recordings_.size(); }
  const std::string& kernel(size_t space) const { return recordings_[space].name; }

  // Seeds from `seed` on, one a repeat; the longest walks first so that no core waits.
  Walks walks(const search::TourSettings& settings, size_t batch, uint64_t seed,
              size_t repeats) const {
    Walks walks(size(), search::Scorer::Walks(repeats));
    std::vector<size_t> order(size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return scorers_[a].evaluations() > scorers_[b].evaluations();
    });
    in_parallel(order.size() * repeats, [&](size_t task) {
      const size_t i = order[task / repeats], repeat = task % repeats;
      search::TourSearch strategy(recordings_[i].points, settings, seed + repeat);
      walks[i][repeat] = search::replay(strategy, recordings_[i], scorers_[i].budget(), batch);
    });
    return walks;
  }

  std::vector<double> scores(const Walks& walks) const {
    std::vector<double> scores(size());
    in_parallel(size(), [&](size_t i) { scores[i] = scorers_[i].score(walks[i]); });
    return scores;
  }

  // The mean of the scores until the whole, the half, the quarter ... of a space's budget, down to
  // four evaluations: what settings are worth wherever a walk ends.
  std::vector<double> scores_of_budgets(const Walks& walks) const {
    std::vector<double> scores(size());
    in_parallel(size(), [&](size_t i) {
      const std::vector<double> curve = scorers_[i].curve(walks[i]);
      std::vector<double> means;
      for (double share = 1; means.empty() || share * scorers_[i].evaluations() >= 4; share /= 2) {
        const auto end = static_cast<size_t>(share * static_cast<double>(curve.size()));
        means.push_back(end > 0 ? mean_of({curve.begin(), curve.begin() + long(end)})
                                : search::kNoScore);
      }
      scores[i] = mean_of(means);
    });
    return scores;
  }

  Samples resampled(const Walks& walks, size_t count, uint64_t seed) const {
    Samples samples(size());
    in_parallel(size(),
                [&](size_t i) { samples[i] = scorers_[i].resampled(walks[i], count, seed); });
    return samples;
  }

 private:
  static search::Recording load(const std::filesystem::path& path) {
    const archive::TuningCache cache = archive::read_tuning_cache(path);
    return {path.parent_path().filename().string(),
            search::Points::listed(cache.space, cache.points), cache.times, cache.costs,
            cache.runs};
  }

  void in_parallel(size_t count, const std::function<void(size_t)>& work) const {
    std::atomic<size_t> next{0};
    const auto labour = [&] {
      for (size_t task; (task = next++) < count;) work(task);
    };
    std::vector<std::thread> threads;
    for (size_t i = 1; i < jobs_; ++i) threads.emplace_back(labour);
    labour();
    for (std::thread& thread : threads) thread.join();
  }

  size_t jobs_;
  std::vector<search::Recording> recordings_;
  std::vector<search::Scorer> scorers_;
};

// Sample by sample, over the spaces that `wanted` names by number (all, where it is empty).
inline std::vector<double> mean_samples(const RecordedSpaces::Samples& samples,
                                        const std::vector<size_t>& wanted = {}) {
  std::vector<size_t> spaces = wanted;
  for (size_t i = 0; wanted.empty() && i < samples.size(); ++i) spaces.push_back(i);
  std::vector<double> mean(samples.at(0).size());
  for (size_t i : spaces)
    for (size_t k = 0; k < mean.size(); ++k)
      mean[k] += samples[i][k] / static_cast<double>(spaces.size());
  return mean;
}

// The 95 % interval of samples.
inline std::pair<double, double> interval_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 40], samples[samples.size() - 1 - samples.size() / 40]};
}

inline std::map<std::string, std::vector<double>> by_kernel(const RecordedSpaces& spaces,
                                                            const std::vector<double>& scores) {
  std::map<std::string, std::vector<double>> result;
  for (size_t i = 0; i < scores.size(); ++i) result[spaces.kernel(i)].push_back(scores[i]);
  return result;
}

}  // namespace mlx_kd::bench
