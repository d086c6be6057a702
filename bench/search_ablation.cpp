// What each part of the search is worth: replays the default strategy with one part changed at a
// time on recorded spaces, and prints a table of mean scores.
//
//   bench_search_ablation FOLDER [repeats (25)] [variant...]
//
// FOLDER holds <kernel>/<device>.json.gz caches. Rows: all spaces, then a column a kernel.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <vector>

#include "mlx_kd/archive/tuning_cache.h"
#include "mlx_kd/search/score.h"
#include "mlx_kd/search/tour_search.h"

namespace {

using namespace mlx_kd;
namespace fs = std::filesystem;

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
      {"no graph moves", [](Settings& s) { s.elite = 0, s.stops = 256; }},
      {"Hamming moves alone", [](Settings& s) { s.knn = 0; }},
      {"first point anywhere", [](Settings& s) { s.centre = SIZE_MAX; }},
      {"eight points before the model", [](Settings& s) { s.initial = 8; }},
      {"trees from the start", [](Settings& s) { s.process_limit = 2; }},
      {"scales not fitted", [](Settings& s) { s.first_scales = SIZE_MAX; }},
      {"no additive kernel", [](Settings& s) { s.kernel.additive = 0; }},
      {"additive kernel alone", [](Settings& s) { s.kernel.additive = 1; }},
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

double score_of(const Variant& variant, const search::Recording& recording, uint64_t repeats) {
  search::TourSettings settings;
  variant.change(settings);
  const search::Scorer scorer(recording);
  search::Scorer::Walks walks;
  for (uint64_t seed = 0; seed < repeats; ++seed) {
    search::TourSearch strategy(recording.points, settings, seed);
    walks.push_back(search::replay(strategy, recording, scorer.budget(), variant.batch));
  }
  return scorer.score(walks);
}

void print_row(const Variant& variant, const std::vector<search::Recording>& recordings,
               uint64_t repeats) {
  std::map<std::string, std::vector<double>> by_kernel;
  double sum = 0;
  for (const auto& recording : recordings) {
    by_kernel[recording.name].push_back(score_of(variant, recording, repeats));
    sum += by_kernel[recording.name].back();
  }
  std::printf("| %s | %.3f |", variant.name, sum / static_cast<double>(recordings.size()));
  for (const auto& [kernel, scores] : by_kernel) {
    double mean = 0;
    for (double score : scores) mean += score / static_cast<double>(scores.size());
    std::printf(" %.3f |", mean);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [repeats] [variant...]\n", argv[0]);
    return 2;
  }
  std::vector<search::Recording> recordings;
  for (const auto& entry : fs::recursive_directory_iterator(argv[1]))
    if (entry.path().extension() == ".gz") recordings.push_back(load(entry.path()));
  const uint64_t repeats = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 25;
  for (const Variant& variant : variants()) {
    bool wanted = argc <= 3;
    for (int i = 3; i < argc; ++i) wanted = wanted || std::string(argv[i]) == variant.name;
    if (wanted) print_row(variant, recordings, repeats);
  }
}
