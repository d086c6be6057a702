// Would the search's settings have been chosen on one kernel, and do they hold on another?
//
//   bench_search_transfer FOLDER [repeats (8)] [jobs (all cores)] [file] [fresh repeats (100)]
//
// FOLDER holds <kernel>/<device>.json.gz caches of at least two kernels. Every setting of a grid
// over what the ablation varies is replayed on the spaces of each kernel. The one that is best
// there, by the mean score over budgets of many lengths (RecordedSpaces::scores_of_budgets: a
// kernel may be recorded with large budgets only, and be followed by one that has few evaluations),
// is then scored, with seeds that chose nothing, on the spaces of the others, beside the settings
// as they are. Writes {"date", "kd_version", "cores", "load", "repeats", "fresh_repeats", "grid",
// "kernels": [{"chosen_on", "setting", "score_there", "confirmed": [{"kernel", "chosen",
// "as_it_is", "difference"}]}]} to the file, or stdout; the last three are {"mean", "lo", "hi"}, 95
// % bootstrap.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "bench/recorded_spaces.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/version.h"

namespace {

using namespace mlx_kd;

constexpr size_t kResamples = 1000;

struct Setting {
  std::string name;
  search::TourSettings settings;
};

// All combinations of the values that the ablation tells apart.
std::vector<Setting> grid() {
  std::vector<Setting> all;
  for (double additive : {0.0, 0.5})
    for (size_t initial : {2, 8})
      for (bool fitted : {true, false})
        for (double centre_trust : {0.0, 1.0}) {
          search::TourSettings s;
          s.kernel.additive = additive;
          s.initial = initial;
          if (!fitted) s.first_scales = SIZE_MAX;
          s.centre_trust = centre_trust;
          char name[96];
          std::snprintf(name, sizeof name, "additive %g, initial %zu, scales %s, centre trust %g",
                        additive, initial, fitted ? "fitted" : "fixed", centre_trust);
          all.push_back({name, s});
        }
  return all;
}

class Transfer {
 public:
  Transfer(const std::filesystem::path& folder, size_t repeats, size_t fresh, size_t jobs)
      : repeats_(repeats), fresh_(fresh), grid_(grid()) {
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.is_directory())
        spaces_.try_emplace(entry.path().filename().string(), entry.path(), jobs);
    if (spaces_.size() < 2) base::misuse("bench", "spaces of two kernels at least are needed");
  }

  base::OrderedJson run() {
    base::OrderedJson all = base::OrderedJson::array(), kernels = base::OrderedJson::array();
    for (const Setting& setting : grid_) all.push_back({{"setting", setting.name}});
    for (const auto& [kernel, spaces] : spaces_) replay_grid(kernel, spaces, all);
    for (const auto& [kernel, spaces] : spaces_) kernels.push_back(transfer_from(kernel, all));
    double load = 0;
    return {{"date", base::iso_time_now().substr(0, 10)},
            {"kd_version", base::version()},
            {"cores", std::thread::hardware_concurrency()},
            {"load", getloadavg(&load, 1) == 1 ? load : -1},
            {"repeats", repeats_},
            {"fresh_repeats", fresh_},
            {"grid", all},
            {"kernels", kernels}};
  }

 private:
  void replay_grid(const std::string& kernel, const bench::RecordedSpaces& spaces,
                   base::OrderedJson& all) const {
    for (size_t i = 0; i < grid_.size(); ++i) {
      const auto walks = spaces.walks(grid_[i].settings, 1, 0, repeats_);
      all[i][kernel] = {{"score", bench::mean_of(spaces.scores(walks))},
                        {"of_budgets", bench::mean_of(spaces.scores_of_budgets(walks))}};
      std::fprintf(stderr, "%s: %s %s\n", kernel.c_str(), grid_[i].name.c_str(),
                   all[i][kernel].dump().c_str());
    }
  }

  base::OrderedJson transfer_from(const std::string& kernel, const base::OrderedJson& all) const {
    size_t best = 0;
    for (size_t i = 1; i < grid_.size(); ++i)
      if (all[i][kernel]["of_budgets"] > all[best][kernel]["of_budgets"]) best = i;
    base::OrderedJson result = {{"chosen_on", kernel},
                                {"setting", grid_[best].name},
                                {"score_there", all[best][kernel]["score"]},
                                {"confirmed", base::OrderedJson::array()}};
    for (const auto& [other, spaces] : spaces_)
      if (other != kernel)
        result["confirmed"].push_back(compared(other, spaces, grid_[best].settings));
    std::fprintf(stderr, "%s\n", result.dump().c_str());
    return result;
  }

  // With seeds that the grid was not replayed with.
  std::vector<double> fresh_samples(const bench::RecordedSpaces& spaces,
                                    const search::TourSettings& settings) const {
    return bench::mean_samples(
        spaces.resampled(spaces.walks(settings, 1, 1000, fresh_), kResamples, 0));
  }

  base::OrderedJson compared(const std::string& kernel, const bench::RecordedSpaces& spaces,
                             const search::TourSettings& chosen) const {
    const std::vector<double> a = fresh_samples(spaces, chosen);
    const std::vector<double> b = fresh_samples(spaces, search::TourSettings());
    std::vector<double> difference = a;
    for (size_t k = 0; k < kResamples; ++k) difference[k] -= b[k];
    base::OrderedJson result = {{"kernel", kernel}};
    const auto put = [&](const std::string& name, const std::vector<double>& samples) {
      const auto [lo, hi] = bench::interval_of(samples);
      result[name] = {{"mean", bench::mean_of(samples)}, {"lo", lo}, {"hi", hi}};
    };
    put("chosen", a);
    put("as_it_is", b);
    put("difference", difference);
    return result;
  }

  size_t repeats_, fresh_;
  std::vector<Setting> grid_;
  std::map<std::string, bench::RecordedSpaces> spaces_;  // by kernel
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [repeats] [jobs] [file] [fresh repeats]\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i, uint64_t otherwise) {
    const uint64_t value = argc > i ? std::strtoull(argv[i], nullptr, 10) : 0;
    return value > 0 ? value : otherwise;
  };
  Transfer transfer(argv[1], number(2, 8), number(5, 100),
                    number(3, std::max(1u, std::thread::hardware_concurrency())));
  const std::string text = transfer.run().dump(1) + "\n";
  if (argc > 4)
    base::write_file_atomically(argv[4], text, "bench");
  else
    std::fputs(text.c_str(), stdout);
} catch (const mlx_kd::base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
