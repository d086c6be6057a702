// What each part of the search is worth: replays the default strategy with one part changed at a
// time on recorded spaces, and prints a table of mean scores.
//
//   bench_search_ablation FOLDER [repeats (25)] [jobs (all cores)] [seconds (no limit)]
//   [variant...]
//
// FOLDER holds <kernel>/<device>.json.gz caches. Columns: the mean over all spaces; by how much it
// differs from "as it is", with its 95 % interval (the same seeds resampled in both); the mean of
// each kernel's spaces. A variant is left out where the seconds are over before it begins.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "mlx_kd/archive/tuning_cache.h"
#include "mlx_kd/search/score.h"
#include "mlx_kd/search/tour_search.h"

namespace {

using namespace mlx_kd;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kResamples = 1000;
constexpr uint64_t kSeed = 0;  // of the resampling

struct Variant {
  const char* name;
  std::function<void(search::TourSettings&)> change;
  size_t batch = 1;
};

const std::vector<Variant>& variants() {
  using Settings = search::TourSettings;
  static const std::vector<Variant> all = {
      {"as it is", [](Settings&) {}},
      {"no tours", [](Settings& s) { s.stops = 0, s.novelty = 0; }},
      {"no unasked tour stops", [](Settings& s) { s.novelty = 0; }},
      {"tours in the points' own order", [](Settings& s) { s.sort_limit = 0; }},
      {"16 tour stops", [](Settings& s) { s.stops = 16; }},
      {"64 tour stops", [](Settings& s) { s.stops = 64; }},
      {"no graph moves", [](Settings& s) { s.elite = 0, s.stops = 256; }},
      {"Hamming moves alone", [](Settings& s) { s.knn = 0; }},
      {"moves of the best 4", [](Settings& s) { s.elite = 4; }},
      {"moves of the best 16", [](Settings& s) { s.elite = 16; }},
      {"first point anywhere", [](Settings& s) { s.centre = SIZE_MAX; }},
      {"one point before the model", [](Settings& s) { s.initial = 1; }},
      {"five points before the model", [](Settings& s) { s.initial = 5; }},
      {"eight points before the model", [](Settings& s) { s.initial = 8; }},
      {"trees from the start", [](Settings& s) { s.process_limit = 2; }},
      {"trees from 100 on", [](Settings& s) { s.process_limit = 100; }},
      {"scales not fitted", [](Settings& s) { s.first_scales = SIZE_MAX; }},
      {"no additive kernel", [](Settings& s) { s.kernel.additive = 0; }},
      {"half an additive kernel", [](Settings& s) { s.kernel.additive = 0.5; }},
      {"additive kernel alone", [](Settings& s) { s.kernel.additive = 1; }},
      {"no additive kernel, scales not fitted",
       [](Settings& s) { s.kernel.additive = 0, s.first_scales = SIZE_MAX; }},
      {"no additive kernel, eight points",
       [](Settings& s) { s.kernel.additive = 0, s.initial = 8; }},
      {"no additive kernel, Hamming moves alone",
       [](Settings& s) { s.kernel.additive = 0, s.knn = 0; }},
      {"bad values not capped", [](Settings& s) { s.cap = 1; }},
      {"batches of 4", [](Settings&) {}, 4},
      {"batches of 8", [](Settings&) {}, 8},
  };
  return all;
}

search::Recording load(const fs::path& path) {
  const archive::TuningCache cache = archive::read_tuning_cache(path);
  return {path.parent_path().filename().string(), search::Points::listed(cache.space, cache.points),
          cache.times, cache.costs};
}

using Walks = std::vector<search::Scorer::Walks>;  // one list a recording

class Ablation {
 public:
  Ablation(const fs::path& folder, size_t repeats, size_t jobs) : repeats_(repeats), jobs_(jobs) {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.path().extension() == ".gz") paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    recordings_.reserve(paths.size());
    for (const fs::path& path : paths) recordings_.push_back(load(path));
    for (const auto& recording : recordings_) scorers_.emplace_back(recording);
  }

  void print_row(const Variant& variant) {
    const Walks walks = walks_of(variant);
    std::vector<double> scores(recordings_.size());
    std::vector<std::vector<double>> samples(recordings_.size());
    in_parallel(recordings_.size(), [&](size_t i) {
      scores[i] = scorers_[i].score(walks[i]);
      samples[i] = scorers_[i].resampled(walks[i], kResamples, kSeed);
    });
    if (base_.empty()) base_ = mean_over_spaces(samples);
    std::vector<double> differences = mean_over_spaces(samples);
    for (size_t k = 0; k < kResamples; ++k) differences[k] -= base_[k];
    std::sort(differences.begin(), differences.end());
    std::printf("| %s | %.3f | %+.3f [%+.3f, %+.3f] |", variant.name, mean_of(scores),
                mean_of(differences), differences[kResamples / 40],
                differences[kResamples - 1 - kResamples / 40]);
    std::map<std::string, std::vector<double>> by_kernel;
    for (size_t i = 0; i < scores.size(); ++i) by_kernel[recordings_[i].name].push_back(scores[i]);
    for (const auto& [kernel, of_kernel] : by_kernel) std::printf(" %.3f |", mean_of(of_kernel));
    std::printf(" %.3f |\n", *std::min_element(scores.begin(), scores.end()));
    std::fflush(stdout);
  }

 private:
  static double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (double value : values) sum += value / static_cast<double>(values.size());
    return sum;
  }

  std::vector<double> mean_over_spaces(const std::vector<std::vector<double>>& samples) const {
    std::vector<double> mean(kResamples);
    for (const auto& of_space : samples)
      for (size_t k = 0; k < kResamples; ++k)
        mean[k] += of_space[k] / static_cast<double>(samples.size());
    return mean;
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

  // The walks of all repeats on all recordings, the longest first so that no core waits.
  Walks walks_of(const Variant& variant) const {
    Walks walks(recordings_.size(), search::Scorer::Walks(repeats_));
    std::vector<size_t> order(recordings_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return scorers_[a].evaluations() > scorers_[b].evaluations();
    });
    in_parallel(order.size() * repeats_, [&](size_t task) {
      const size_t i = order[task / repeats_], seed = task % repeats_;
      walks[i][seed] = walk(variant, i, seed);
    });
    return walks;
  }

  std::vector<size_t> walk(const Variant& variant, size_t which, uint64_t seed) const {
    search::TourSettings settings;
    variant.change(settings);
    search::TourSearch strategy(recordings_[which].points, settings, seed);
    return search::replay(strategy, recordings_[which], scorers_[which].budget(), variant.batch);
  }

  size_t repeats_, jobs_;
  std::vector<search::Recording> recordings_;
  std::vector<search::Scorer> scorers_;
  std::vector<double> base_;  // resampled means of "as it is"
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [repeats] [jobs] [seconds] [variant...]\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i, uint64_t otherwise) {
    const uint64_t value = argc > i ? std::strtoull(argv[i], nullptr, 10) : 0;
    return value > 0 ? value : otherwise;
  };
  Ablation ablation(argv[1], number(2, 25),
                    number(3, std::max(1u, std::thread::hardware_concurrency())));
  const auto end = Clock::now() + std::chrono::seconds(number(4, 1u << 20));
  std::printf("| changed | mean | difference | a column a kernel | | least |\n");
  for (const Variant& variant : variants()) {
    bool wanted = argc <= 5 || &variant == &variants().front();
    for (int i = 5; i < argc; ++i) wanted = wanted || std::string(argv[i]) == variant.name;
    if (wanted && Clock::now() < end) ablation.print_row(variant);
  }
}
