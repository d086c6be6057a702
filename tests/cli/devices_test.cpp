#include <gtest/gtest.h>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

TEST(DevicesVerb, ListsKindsWithWhatAPinNeeds) {
  const auto result = tests::run_cli({"devices", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  bool cpu = false;
  for (const auto& device : base::parse_json(result.out, "test", "kd devices")) {
    if (device["kind"] != "cpu") continue;
    cpu = true;
    EXPECT_TRUE(device["available"].get<bool>());
    EXPECT_FALSE(device["arch"].get<std::string>().empty());
    EXPECT_TRUE(device["target"].contains("isa"));
    EXPECT_GE(device["target"]["cores"].get<int>(), 1);
  }
  EXPECT_TRUE(cpu);
}

TEST(DevicesVerb, PrintsALineAKind) {
  const auto result = tests::run_cli({"devices"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.out.find("cpu"), std::string::npos);
  EXPECT_NE(result.out.find("null"), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::cli
