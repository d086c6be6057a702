// What the runs of a tuning found, and the pack of it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "mlx_kd/discover/models/trial_result.h"
#include "mlx_kd/discover/models/tune_gains.h"
#include "mlx_kd/discover/models/tune_state.h"
#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::discover {

class TuneWinners {
 public:
  // Reads all runs that have ended.
  TuneWinners(const TuneRequest& request, const TuneState& state);

  // Uses whose search has a winner for the tokens of a pass that is faster than the default kernel
  // at all: what a trial in the model is to judge.
  UsesByPass to_try() const;
  // The same for the same winners, a few bytes.
  std::string text_of_tried() const;
  // Whether the winner at the first size is so many times as fast as the default kernel, or has no
  // default kernel with a pin next to it.
  bool gained(const ModelUse& use, double least_gain) const;

  // Default kernels, and in their place the winners that a trial kept: a winner that serves the
  // tokens of several passes has to be kept in all of them. Uses of the passes `without_pins`, a
  // first step or the prompt, have no entry. Empty on the null device, whose times make no pins.
  packs::Pack pack_of_kept(const UsesByPass& kept, const std::set<size_t>& without_pins = {}) const;
  // Without a trial: the winners that are kLeastGain times as fast as the default kernel.
  packs::Pack pack_by_gain() const;

 private:
  struct Found {
    const ModelUse* use = nullptr;
    packs::Pack searched, by_default;
    TuneGains gains;           // empty where the default kernel has no pin
    std::string candidate_id;  // of the search's winner at the first size
  };
  packs::Pack gainers(const Found& found, double least_gain) const;
  std::set<size_t> passes_of(const ModelUse& use, const packs::Entry& entry) const;
  // The first step, or the prompt.
  size_t main_pass(const ModelUse& use) const {
    return use.prompt ? request_.sizes.rows.size() : 0;
  }
  packs::Pack with(const std::vector<packs::Origin>& searched,
                   const std::set<size_t>& without_pins) const;

  const TuneRequest& request_;
  std::vector<Found> found_;  // in the order of the uses
};

}  // namespace mlx_kd::discover
