#include "mlx_kd/evaluate/proof/guards.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {
namespace {

using Place = FencedBuffer::Place;

TEST(FencedBuffer, ArraysArePoisonedWhollyAtEitherEnd) {
  FencedBuffer buffer(10000, "out");
  for (Place place : {Place::low, Place::high}) {
    const std::byte* array = buffer.poison(10000, place, 0xff);
    for (int i = 0; i < 10000; ++i) ASSERT_EQ(array[i], std::byte{0xff});
    EXPECT_TRUE(buffer.intact());
  }
}

TEST(FencedBuffer, NoticesAByteBesideTheArray) {
  FencedBuffer buffer(1000, "out");
  buffer.poison(1000, Place::low, 0)[1000] = std::byte{1};
  EXPECT_FALSE(buffer.intact());
  buffer.poison(1000, Place::high, 0)[-1] = std::byte{1};
  EXPECT_FALSE(buffer.intact());
}

TEST(FencedBuffer, ASmallArrayInALargeBufferIsFencedToo) {
  FencedBuffer buffer(100000, "out");
  buffer.poison(64, Place::low, 0)[64] = std::byte{1};
  EXPECT_FALSE(buffer.intact());
}

void write_at(std::byte* at) {
  *const_cast<volatile std::byte*>(at) = std::byte{1};
}

TEST(FencedBufferDeathTest, TouchingAGuardPageEndsTheProcessAndNamesTheOutput) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto beyond = [](Place place, int64_t at) {
    report_faults_to(STDERR_FILENO);
    FencedBuffer buffer(4096, "out");
    write_at(buffer.poison(4096, place, 0) + at);
  };
  EXPECT_EXIT(beyond(Place::high, 4096), testing::ExitedWithCode(kFaultExit), "output 'out'");
  EXPECT_EXIT(beyond(Place::low, -1), testing::ExitedWithCode(kFaultExit), "output 'out'");
}

}  // namespace
}  // namespace mlx_kd::evaluate
