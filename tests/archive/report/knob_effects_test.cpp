#include "mlx_kd/archive/report/knob_effects.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mlx_kd::archive {
namespace {

// A measured candidate with a given score and knobs A and B.
Record measured(int64_t a, int64_t b, double score) {
  Record record;
  record.candidate.knobs = {{"A", a}, {"B", b}};
  record.verdict.status = spec::Status::benchmarked;
  record.verdict.objective = score;
  return record;
}

const KnobEffect& effect_of(const KnobNotes& notes, const std::string& knob) {
  for (const KnobEffect& effect : notes.knobs)
    if (effect.knob == knob) return effect;
  throw std::runtime_error("no such knob");
}

TEST(KnobNotes, SplitTheVarianceOfABalancedPlan) {
  RunData run;
  for (int64_t a : {1, 2})
    for (int64_t b : {1, 2})
      run.records.push_back(measured(a, b, 0.3 * double(a) + 0.1 * double(b)));
  const KnobNotes notes = knob_notes(run);
  EXPECT_NEAR(notes.explained, 1, 1e-12);
  EXPECT_NEAR(effect_of(notes, "A").share, 0.9, 1e-12);  // 0.3^2 / (0.3^2 + 0.1^2)
  EXPECT_NEAR(effect_of(notes, "B").share, 0.1, 1e-12);
  EXPECT_EQ(notes.knobs[0].knob, "A") << "the largest first";
  EXPECT_NEAR(effect_of(notes, "A").values[1].factor, std::exp(0.3), 1e-9);
  EXPECT_EQ(effect_of(notes, "A").values[0].factor, 1);
}

// The search looked at B=2 mostly where A=1: by plain averages B=2 would look faster.
TEST(KnobNotes, TellKnobsApartThatWereVariedTogether) {
  RunData run;
  for (int i = 0; i < 9; ++i) run.records.push_back(measured(1, 2, 0));
  for (int i = 0; i < 9; ++i) run.records.push_back(measured(2, 1, 1));
  run.records.push_back(measured(1, 1, 0));
  run.records.push_back(measured(2, 2, 1));
  const KnobNotes notes = knob_notes(run);
  EXPECT_NEAR(effect_of(notes, "B").values[1].factor, 1, 1e-3);
  EXPECT_NEAR(effect_of(notes, "A").values[1].factor, std::exp(1), 1e-2);
  EXPECT_LT(effect_of(notes, "B").values[1].median, 1) << "what the plain medians say";
}

TEST(KnobNotes, LeaveInteractionsUnexplained) {
  RunData run;
  for (int64_t a : {1, 2})
    for (int64_t b : {1, 2}) run.records.push_back(measured(a, b, a == b ? 1 : 0));
  EXPECT_NEAR(knob_notes(run).explained, 0, 1e-12);
}

TEST(KnobNotes, LeaveOutWhatWasNotVariedAndWhatFailed) {
  RunData run;
  EXPECT_TRUE(knob_notes(run).knobs.empty());
  run.records = {measured(1, 5, 0), measured(2, 5, 1), measured(9, 9, 7)};
  run.records[2].verdict = {};
  const KnobNotes notes = knob_notes(run);
  EXPECT_EQ(notes.candidates, 2u);
  ASSERT_EQ(notes.knobs.size(), 1u);
  EXPECT_EQ(notes.knobs[0].values.size(), 2u);
}

}  // namespace
}  // namespace mlx_kd::archive
