#include "mlx_kd/cli/terminal/progress.h"

#include <cstdio>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/cli/terminal/console.h"

namespace mlx_kd::cli {
namespace {

constexpr double kPlainLineEvery = 5;  // s, where stderr is not a terminal

}  // namespace

Progress::Progress(uint64_t budget, bool quiet)
    : budget_(budget), quiet_(quiet), live_(stderr_is_live()), start_ns_(base::steady_ns()) {}

Progress::~Progress() {
  clear();
}

std::string Progress::line(const std::string& doing) const {
  constexpr uint64_t kWidth = 20;
  const uint64_t filled = budget_ ? kWidth * done_ / budget_ : 0;
  std::string text = "[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " +
                     std::to_string(done_) + "/" + std::to_string(budget_);
  if (done_ > first_number_ && search_start_ns_) {
    const double each =
        base::seconds_since(search_start_ns_) / static_cast<double>(done_ - first_number_);
    text += ", " + duration(each * static_cast<double>(budget_ - done_)) + " left";
  }
  if (!best_knobs_.empty())
    text += ", best " + times(best_vs_first_) + " faster than the first (" + best_knobs_ + ")";
  return text + (doing.empty() ? "" : ", " + doing);
}

void Progress::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

// On a terminal the line is redrawn each time; elsewhere every few seconds, and whenever it is
// important.
void Progress::show(const std::string& text, bool important) {
  if (quiet_) return;
  if (live_) {
    clear();
    std::fputs(text.substr(0, static_cast<size_t>(stderr_columns() - 1)).c_str(), stderr);
    drawn_ = true;
  } else if (important || base::seconds_since(last_plain_ns_) > kPlainLineEvery) {
    std::fprintf(stderr, "%s\n", text.c_str());
    last_plain_ns_ = base::steady_ns();
  }
  std::fflush(stderr);
}

void Progress::stage(const std::string& what) {
  show(duration(base::seconds_since(start_ns_)) + ": " + what, true);
}

void Progress::trying(const spec::Candidate& candidate, uint64_t number) {
  if (!search_start_ns_) {
    search_start_ns_ = base::steady_ns();
    first_number_ = done_ = number - 1;
  }
  show(line("trying " + candidate.knobs.text()), number == 1);
}

void Progress::evaluated(const discover::Step& step) {
  done_ = step.number;
  best_vs_first_ = step.best_vs_first;
  best_knobs_ = step.best_knobs;
  show(line(""), step.number == budget_);
}

void Progress::note(const std::string& message) {
  if (quiet_) return;
  clear();
  std::fprintf(stderr, "%s\n", message.c_str());
}

}  // namespace mlx_kd::cli
