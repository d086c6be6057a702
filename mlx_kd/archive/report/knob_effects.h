// Which knob mattered, and by how much.
//
// An additive model is fitted by least squares (backfitting): score = mean + sum over knobs of
// effect(knob, value). A search looks more often where it is fast, so plain averages by value would
// mix the knobs up; the joint fit takes out what the others explain. Interactions stay in the
// residual, and `explained` says how much is left to them and to noise.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

struct ValueEffect {
  std::string value;  // "64"; a name for the factor `variant`
  size_t count = 0;   // measured candidates that have it
  double factor = 1;  // fitted time relative to the knob's best value: 1.12 is 12 % slower
  double median = 0;  // median time of these candidates relative to the median of all
};

struct KnobEffect {
  std::string knob;
  // Of the variance of the score: covariance of the fitted effect with it / variance. Shares add up
  // to `explained`; a negative one means that the knob is redundant given the others (collinear).
  double share = 0;
  std::vector<ValueEffect> values;  // in rising order of value
};

struct KnobNotes {
  std::vector<KnobEffect> knobs;  // the largest share first; only knobs that were varied
  double explained = 0;           // R^2 of the whole model
  size_t candidates = 0;          // measured ones that it was fitted to
};

KnobNotes knob_notes(const RunData& run);

}  // namespace mlx_kd::archive
