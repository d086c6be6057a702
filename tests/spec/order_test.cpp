#include "mlx_kd/spec/order.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mlx_kd::spec {
namespace {

Metrics times(double kernel_us, double latency_us) {
  Metrics result;
  result.kernel_us = kernel_us;
  result.latency_us = latency_us;
  return result;
}

TEST(Order, GoesByKernelThenLatencyThenId) {
  EXPECT_TRUE(ranks_before(times(1, 9), "b", times(2, 8), "a"));
  EXPECT_TRUE(ranks_before(times(1, 8), "b", times(1, 9), "a"));
  EXPECT_TRUE(ranks_before(times(1, 8), "a", times(1, 8), "b"));
  EXPECT_FALSE(ranks_before(times(1, 8), "a", times(1, 8), "a"));
}

TEST(Order, GoesByLatencyWhereEitherLacksTheKernelTime) {
  EXPECT_TRUE(ranks_before(times(kUnmeasured, 8), "b", times(1, 9), "a"));
  EXPECT_FALSE(ranks_before(times(1, 9), "a", times(kUnmeasured, 8), "b"));
  EXPECT_TRUE(ranks_before(times(5, 9), "b", times(kUnmeasured, kUnmeasured), "a"));
}

TEST(Order, RanksAMixedListTheSameInWhateverOrderItComes) {
  // By pairs these three form a ring: a before c by kernel_us, c before b and b before a otherwise.
  const Metrics a = times(1, 10), b = times(kUnmeasured, 5), c = times(2, 1);
  std::vector<Ranked> list = {{&a, "a"}, {&b, "b"}, {&c, "c"}};
  do {
    std::string ids;
    for (size_t i : rank(list)) ids += list[i].id;
    EXPECT_EQ(ids, "cba");
  } while (std::next_permutation(list.begin(), list.end(),
                                 [](const Ranked& x, const Ranked& y) { return x.id < y.id; }));
  EXPECT_TRUE(rank({}).empty());
}

}  // namespace
}  // namespace mlx_kd::spec
