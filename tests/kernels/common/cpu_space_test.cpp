#include "mlx_kd/kernels/common/cpu_space.h"

#include <gtest/gtest.h>

namespace mlx_kd::kernels {
namespace {

TEST(ShareUnits, NeedsNoMoreThreadsThanTasks) {
  const auto at = [](int64_t units, int64_t threads, int64_t grain) {
    return share_units(units, {{"THREADS", threads}, {"GRAIN", grain}});
  };
  EXPECT_EQ(at(4, 8, 16).threads, 1);
  EXPECT_EQ(at(48, 8, 16).threads, 3);
  EXPECT_EQ(at(1000, 8, 16).threads, 8);
  EXPECT_EQ(at(1000, 8, 16).grid[0], 1000);
  EXPECT_EQ(at(1000, 8, 16).group[0], 16);
  EXPECT_EQ(at(0, 8, 16).threads, 1);
}

}  // namespace
}  // namespace mlx_kd::kernels
