// Would the search's settings have been chosen on one kernel, and do they hold on another?
//
//   bench_search_transfer FOLDER [repeats (8)] [jobs (all cores)] [file]
//
// FOLDER holds <kernel>/<device>.json.gz caches of at least two kernels. Every setting of a grid
// over what the ablation varies is replayed on the spaces of each kernel. The one that is best
// there, by the mean score over five budgets (RecordedSpaces::scores_of_budgets: a kernel may be
// recorded with large budgets only, and be followed by one that has few evaluations), is then
// scored, with seeds that chose nothing, on the spaces of the others, beside the settings as they
// are. Writes {"date", "kd_version", "cores", "repeats", "grid",
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
  Transfer(const std::string& folder, size_t repeats, size_t jobs)
      : spaces_(folder, jobs), repeats_(repeats), grid_(grid()) {
    for (size_t i = 0; i < spaces_.size(); ++i) of_kernel_[spaces_.kernel(i)].push_back(i);
    if (of_kernel_.size() < 2) base::misuse("bench", "spaces of two kernels at least are needed");
  }

  base::OrderedJson run() {
    replay_grid();
    base::OrderedJson kernels = base::OrderedJson::array();
    for (const auto& [kernel, spaces] : of_kernel_) kernels.push_back(transfer_from(kernel));
    base::OrderedJson all = base::OrderedJson::array();
    for (size_t i = 0; i < grid_.size(); ++i) {
      all.push_back({{"setting", grid_[i].name}});
      for (const auto& [kernel, spaces] : of_kernel_)
        all.back()[kernel] = {{"score", mean_on(scores_[i], kernel)},
                              {"of_budgets", mean_on(of_budgets_[i], kernel)}};
    }
    return {{"date", base::iso_time_now().substr(0, 10)},
            {"kd_version", base::version()},
            {"cores", std::thread::hardware_concurrency()},
            {"repeats", repeats_},
            {"grid", all},
            {"kernels", kernels}};
  }

 private:
  void replay_grid() {
    for (const Setting& setting : grid_) {
      const auto walks = spaces_.walks(setting.settings, 1, 0, repeats_);
      scores_.push_back(spaces_.scores(walks));
      of_budgets_.push_back(spaces_.scores_of_budgets(walks));
      std::fprintf(stderr, "%s: %.3f\n", setting.name.c_str(), bench::mean_of(scores_.back()));
    }
  }

  double mean_on(const std::vector<double>& scores, const std::string& kernel) const {
    double sum = 0;
    for (size_t space : of_kernel_.at(kernel)) sum += scores[space];
    return sum / static_cast<double>(of_kernel_.at(kernel).size());
  }

  base::OrderedJson transfer_from(const std::string& kernel) {
    size_t best = 0;
    for (size_t i = 1; i < grid_.size(); ++i)
      if (mean_on(of_budgets_[i], kernel) > mean_on(of_budgets_[best], kernel)) best = i;
    base::OrderedJson result = {{"chosen_on", kernel},
                                {"setting", grid_[best].name},
                                {"score_there", mean_on(scores_[best], kernel)},
                                {"confirmed", base::OrderedJson::array()}};
    const auto chosen = fresh_samples(grid_[best].settings);
    const auto own = fresh_samples(search::TourSettings());
    for (const auto& [other, spaces] : of_kernel_)
      if (other != kernel) result["confirmed"].push_back(compared(other, chosen, own));
    return result;
  }

  // With seeds that the grid was not replayed with.
  bench::RecordedSpaces::Samples fresh_samples(const search::TourSettings& settings) const {
    return spaces_.resampled(spaces_.walks(settings, 1, 1000, 3 * repeats_), kResamples, 0);
  }

  base::OrderedJson compared(const std::string& kernel,
                             const bench::RecordedSpaces::Samples& chosen,
                             const bench::RecordedSpaces::Samples& own) const {
    const std::vector<double> a = bench::mean_samples(chosen, of_kernel_.at(kernel));
    const std::vector<double> b = bench::mean_samples(own, of_kernel_.at(kernel));
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

  bench::RecordedSpaces spaces_;
  size_t repeats_;
  std::vector<Setting> grid_;
  std::map<std::string, std::vector<size_t>> of_kernel_;
  std::vector<std::vector<double>> scores_, of_budgets_;  // [setting][space]
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [repeats] [jobs] [file]\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i, uint64_t otherwise) {
    const uint64_t value = argc > i ? std::strtoull(argv[i], nullptr, 10) : 0;
    return value > 0 ? value : otherwise;
  };
  Transfer transfer(argv[1], number(2, 8),
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
