// Progress of a run on stderr: one line redrawn in place on a terminal, a plain line now and then
// elsewhere.
#pragma once

#include <string>

#include "mlx_kd/discover/listener.h"

namespace mlx_kd::cli {

class Progress : public discover::Listener {
 public:
  Progress(uint64_t budget, bool quiet);
  ~Progress() override;
  void stage(const std::string& what) override;
  void trying(const spec::Candidate& candidate, uint64_t number) override;
  void evaluated(const discover::Step& step) override;
  void note(const std::string& message) override;

 protected:
  // One line about the run under way, in place of the bar.
  void show_step(const std::string& text) { show(text, false); }

 private:
  std::string line(const std::string& doing) const;
  void show(const std::string& text, bool important);
  void clear();

  uint64_t budget_;
  bool quiet_, live_;
  int64_t start_ns_, search_start_ns_ = 0, last_plain_ns_ = 0;
  uint64_t done_ = 0, first_number_ = 0;
  double best_vs_first_ = 1;
  std::string best_knobs_;
  bool drawn_ = false;
};

}  // namespace mlx_kd::cli
