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
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/recorded_spaces.h"

namespace {

using namespace mlx_kd;
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
      {"nothing expected of the middle", [](Settings& s) { s.centre_trust = 0; }},
      {"half as much expected of the middle", [](Settings& s) { s.centre_trust = 0.5; }},
      {"twice as much expected of the middle", [](Settings& s) { s.centre_trust = 2; }},
      {"first point anywhere", [](Settings& s) { s.centre = SIZE_MAX, s.centre_slack = HUGE_VAL; }},
      {"first of the eight nearest, alignments as knobs",
       [](Settings& s) { s.centre_slack = HUGE_VAL, s.alignment_weight = 1; }},
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
      {"A", [](Settings& s) { s.initial = 2, s.kernel.additive = 0.5; }},
      {"B", [](Settings& s) { s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0; }},
      {"C", [](Settings& s) { s.initial = 2, s.novelty = 0; }},
      {"D", [](Settings& s) { s.initial = 2, s.kernel.additive = 0, s.novelty = 0; }},
      {"E", [](Settings& s) { s.initial = 2, s.kernel.additive = 0.25, s.novelty = 0; }},
      {"F", [](Settings& s) { s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.knn = 0; }},
      {"G",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.knn = 0, s.sort_limit = 0;
       }},
      {"H",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.kernel.noise_doublings = 4;
       }},
      {"I",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.kernel.noise_doublings = 4;
         s.doubted_best = true;
       }},
      {"J",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.first_scales = SIZE_MAX;
       }},
      {"K",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.kernel.shrinkage = 0.5;
       }},
      {"L",
       [](Settings& s) {
         s.initial = 2, s.kernel.additive = 0.5, s.novelty = 0, s.kernel.noise_doublings = 4;
         s.knn = 0, s.stops = 64;
       }},
      {"batches of 4", [](Settings&) {}, 4},
      {"batches of 8", [](Settings&) {}, 8},
  };
  return all;
}

class Ablation {
 public:
  Ablation(const std::string& folder, size_t repeats, size_t jobs)
      : spaces_(folder, jobs), repeats_(repeats) {}

  void print_row(const Variant& variant) {
    search::TourSettings settings;
    variant.change(settings);
    const auto walks = spaces_.walks(settings, variant.batch, 0, repeats_);
    const std::vector<double> scores = spaces_.scores(walks);
    const std::vector<double> means =
        bench::mean_samples(spaces_.resampled(walks, kResamples, kSeed));
    if (base_.empty()) base_ = means;
    std::vector<double> differences = means;
    for (size_t k = 0; k < kResamples; ++k) differences[k] -= base_[k];
    const auto [lo, hi] = bench::interval_of(differences);
    std::printf("| %s | %.3f | %+.3f [%+.3f, %+.3f] |", variant.name, bench::mean_of(scores),
                bench::mean_of(differences), lo, hi);
    for (const auto& [kernel, of_kernel] : bench::by_kernel(spaces_, scores))
      std::printf(" %.3f |", bench::mean_of(of_kernel));
    std::printf(" %.3f |\n", *std::min_element(scores.begin(), scores.end()));
    std::fflush(stdout);
  }

 private:
  bench::RecordedSpaces spaces_;
  size_t repeats_;
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
