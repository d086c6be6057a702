// The search of a cluster run replayed on recorded spaces: every rank is a strategy of its own that
// observes its evaluations at once, and those of the others after the round.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/recorded_spaces.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/search/replay/replay.h"
#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::bench {

namespace fs = std::filesystem;

struct Shape {
  size_t ranks, batch, rounds, repeats;
};

inline search::Observation observed(const search::Recording& recording, size_t point) {
  const double value = recording.values[point];
  const bool failed = std::isnan(value);
  return {point, failed, failed ? 0 : search::fixed_log(value), recording.costs[point]};
}

class Cluster {
 public:
  Cluster(const search::Recording& recording, const Shape& shape, uint64_t seed)
      : recording_(recording), shape_(shape) {
    for (size_t rank = 0; rank < shape.ranks; ++rank)
      ranks_.push_back(
          std::make_unique<search::TourSearch>(recording.points, search::TourSettings(), seed));
    find_anchor();
    for (size_t rank = 0; rank < shape.ranks && shape.ranks > 1; ++rank)
      ranks_[rank]->take_share(rank, shape.ranks);
  }

  // Of all ranks; empty where the space has run out.
  std::vector<size_t> round() {
    std::vector<std::vector<search::Observation>> found;
    for (const auto& rank : ranks_) {
      auto& own = found.emplace_back();
      for (const size_t point : rank->propose(shape_.batch))
        own.push_back(observed(recording_, point));
      for (const auto& observation : own) rank->observe(observation);
    }
    std::vector<size_t> all;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      std::vector<search::Observation> heard;
      for (size_t other = 0; other < ranks_.size(); ++other)
        if (other != rank) heard.insert(heard.end(), found[other].begin(), found[other].end());
      ranks_[rank]->observe_all(heard);
      for (const auto& observation : found[rank]) all.push_back(observation.point);
    }
    return all;
  }

  const std::vector<size_t>& anchors() const { return anchors_; }

 private:
  void find_anchor() {
    for (bool valid = false; !valid;) {
      size_t point = 0;
      for (const auto& rank : ranks_) point = rank->propose(1).at(0);
      const auto observation = observed(recording_, point);
      for (const auto& rank : ranks_) rank->observe(observation);
      anchors_.push_back(point);
      valid = !observation.failed;
    }
  }

  const search::Recording& recording_;
  Shape shape_;
  std::vector<std::unique_ptr<search::TourSearch>> ranks_;
  std::vector<size_t> anchors_;
};

struct Curve {
  std::vector<double> evaluations, regret;  // after the anchor, and after each round
};

inline Curve walk(const search::Recording& recording, const Shape& shape, uint64_t seed) {
  Cluster cluster(recording, shape, seed);
  std::vector<size_t> all = cluster.anchors();
  Curve curve;
  for (size_t round = 0; round <= shape.rounds; ++round) {
    curve.evaluations.push_back(static_cast<double>(all.size()));
    curve.regret.push_back(search::regret(recording, all));
    if (round == shape.rounds) break;
    const auto more = cluster.round();
    all.insert(all.end(), more.begin(), more.end());
  }
  return curve;
}

inline std::vector<search::Recording> recordings_in(const fs::path& folder, size_t each) {
  std::map<std::string, std::vector<fs::path>> kernels;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".gz")
      kernels[entry.path().parent_path().filename().string()].push_back(entry.path());
  std::vector<search::Recording> result;
  for (auto& [kernel, paths] : kernels) {
    std::sort(paths.begin(), paths.end());
    paths.resize(std::min(paths.size(), each));
    for (const fs::path& path : paths) {
      const archive::TuningCache cache = archive::read_tuning_cache(path);
      result.push_back({kernel, search::Points::listed(cache.space, cache.points), cache.times,
                        cache.costs, cache.runs});
    }
  }
  return result;
}

inline base::OrderedJson row_of(const std::vector<Curve>& curves, const Shape& shape,
                                size_t spaces) {
  base::OrderedJson points = base::OrderedJson::array();
  base::Random random(0);
  const auto count = static_cast<double>(curves.size());
  for (size_t round = 0; round <= shape.rounds; ++round) {
    double evaluations = 0, mean = 0;
    for (const Curve& curve : curves) {
      evaluations += curve.evaluations[round] / count;
      mean += curve.regret[round] / count;
    }
    std::vector<double> means(1000);
    for (double& resampled : means)
      for (size_t i = 0; i < curves.size(); ++i)
        resampled += curves[random.below(curves.size())].regret[round] / count;
    const auto [lo, hi] = interval_of(means);
    points.push_back({{"round", round},
                      {"evaluations", std::round(evaluations)},
                      {"regret", mean},
                      {"lo", lo},
                      {"hi", hi}});
  }
  return {{"ranks", shape.ranks},
          {"batch", shape.batch},
          {"spaces", spaces},
          {"repeats", shape.repeats},
          {"rounds", points}};
}

inline base::OrderedJson search_row(const fs::path& folder, const Shape& shape, size_t each) {
  const auto recordings = recordings_in(folder, each);
  std::vector<Curve> curves;
  for (const search::Recording& recording : recordings)
    for (uint64_t seed = 0; seed < shape.repeats; ++seed)
      curves.push_back(walk(recording, shape, seed));
  return row_of(curves, shape, recordings.size());
}

}  // namespace mlx_kd::bench
