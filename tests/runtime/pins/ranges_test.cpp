// Pins that cover ranges of free dims, and entries for another contract of their operator.
#include "mlx_kd/runtime/pins/table.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "tests/runtime/contract_ops.h"

namespace mlx_kd::runtime {
namespace {

class Ranges : public Pinned {
 protected:
  static packs::Entry ranged(int64_t size, int64_t lo, int64_t hi, int mark) {
    packs::Entry entry = entry_of(append_op(), {{"S", size}, {"D", 4}}, mark);
    entry.ranges["S"] = {lo, hi, {lo, hi}};
    return entry;
  }
  // The mark of the kernel that ran; 1 is that of the default setting.
  static float ran(int rows) {
    append_op();
    return first(call("test_append", {mx::zeros({rows, 4}), mx::ones({4})})[0]);
  }
};

TEST_F(Ranges, OfAFreeDimServeItsSizesTheNarrowestFirstAndAnExactSizeBeforeAll) {
  pin({ranged(4, 2, 64, 5), ranged(16, 8, 32, 6), entry_of(append_op(), {{"S", 20}, {"D", 4}}, 7)});
  EXPECT_EQ(ran(3), 5);
  EXPECT_EQ(ran(10), 6);
  EXPECT_EQ(ran(20), 7);
  EXPECT_EQ(ran(64), 5);
  EXPECT_EQ(ran(65), 1);
  EXPECT_EQ(stats().pins.at(0).shape, "S=2..64,D=4");
  expect_part(stats().missed.at(0).differs, "S: 65 here");
}

TEST_F(Ranges, OfTwoDimsHoldTogether) {
  Pin pin;
  pin.op = &append_op();
  pin.key.dims = {8, 4};
  pin.ranges = {{0, 2, 64}, {1, 4, 8}};
  EXPECT_TRUE(holds(pin, {64, 8}));
  EXPECT_TRUE(holds(pin, {8, 4}));
  EXPECT_FALSE(holds(pin, {65, 8}));
  EXPECT_FALSE(holds(pin, {64, 9}));
  EXPECT_EQ(shape_of(pin), "S=2..64,D=4..8");
}

TEST_F(Ranges, OfADimThatIsNotFreeAreSkipped) {
  packs::Entry entry = entry_of(append_op(), {{"S", 8}, {"D", 4}}, 5);
  entry.ranges["D"] = {1, 8, {1, 8}};
  pin({entry});
  expect_part(stats().skipped.at(0).reason, "a range of 'D', which is not a free dim");
}

TEST_F(Ranges, AnEntryForAnotherContractOfItsOperatorIsSkippedWithBothNumbers) {
  packs::Entry entry = entry_of(append_op(), {{"S", 8}, {"D", 4}}, 5);
  entry.contract = 2;
  pin({entry});
  EXPECT_EQ(ran(8), 1);
  expect_part(stats().skipped.at(0).reason,
              "for contract 2 of the op, which has contract 1 in this build");
}

}  // namespace
}  // namespace mlx_kd::runtime
