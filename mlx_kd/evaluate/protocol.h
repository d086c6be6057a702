// How candidates are proved and timed: every number that a measurement depends on.
// docs/measuring.md says why they are what they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/evaluate/evaluator.h"

namespace mlx_kd::evaluate {

struct Protocol {
  // Proof.
  std::vector<uint64_t> proof_seeds = {1, 2, 3};
  int64_t reference_bytes = int64_t(512) << 20;  // shared references in all; beyond: fewer rows
  double tiny_subnormals = 2;                    // tiny = so many smallest subnormals of the type

  // Times in `kernel` mode.
  double sample_us = 100;        // least length of a sample
  int warmup = 1;                // samples of each side before the first pair, at least
  int reject_pairs = 3;          // after so many pairs, all worse by reject_factor: stop
  double reject_factor = 1.2;    //
  int base_pairs = 7;            // pairs unless rejected; all worse by late_factor: stop
  double late_factor = 1.02;     //
  int better_pairs = 21;         // pairs where the candidate may be the better
  double confirm_factor = 0.95;  // seems that much faster than the incumbent: timed again,
  int confirm_pairs = 41;        // with so many pairs, and
  int confirm_wins = 31;         // the new incumbent if so many of them are won
  double roofline_share = 0.5;   // of bytes / copy bandwidth: faster than that is suspicious
  int max_cold_sets = 16;        // sets of buffers for a cold sample
  int64_t max_warm_sets = 4096;  // sets of buffers that rotate within half the L2
  bool device_clock = false;     // calls are a graph on the device, and its clock times them

  // Claims, in `graph` and `single` mode.
  int claim_pairs = 31;        // pairs at least; more, up to the most, while they fit claim_s
  int most_claim_pairs = 201;  //
  double claim_s = 0.8;        //
  int presample = 5;           // pairs of both forms of MLX before the better one is chosen
  double graph_sample_ms = 8;  // fewer calls where those of a sample would take longer
  int max_graph_calls = 40;
  int64_t graph_bytes = int64_t(16) << 20;  // outputs of the calls of one eval, at most
  int64_t cold_bytes = int64_t(512) << 20;  // arrays of the calls of one cold eval, at most
  int single_samples = 15;
  double slow_call_ms = 50;  // where one call of MLX takes longer,
  int slow_pairs = 6;        // so many pairs are enough if every ratio
  double slow_ratio = 2;     // is above this; the interval is their minimum and maximum
  int bootstrap_resamples = 2000;
  int claim_processes = 7;  // a winner's speed-up is measured in so many fresh processes,
  int process_pairs = 201;  // in all but the first by at most so many pairs, fewer if they take
  double process_s = 0.15;  // longer than this, but no fewer than
  int least_pairs = 5;
};

// For a device whose calls its own clock times, or the host's.
Protocol protocol_for(const EvaluateOptions& options, bool device_clock = false);

// Every setting by name, and the versions of what is not a number: {version, proof: {version, ..},
// kernel: {..}, claims: {..}}.
base::Json to_json(const Protocol& protocol);

// "3", or "3-device-clock", for the default settings; for others "+" and the first 8 hex digits of
// the SHA-256 of those that differ follow, as canonical JSON. spec/protocol_name.h lists all names.
std::string name_of(const Protocol& protocol);

}  // namespace mlx_kd::evaluate
