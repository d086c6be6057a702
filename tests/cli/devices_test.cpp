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

// A device with an index that its kind does not have is refused before anything runs.
TEST(DeviceIndex, IsThatOfAGpu) {
  const auto error_of = [](const std::string& device) {
    const auto result = tests::run_cli({"verify", "--op", "rmsnorm", "--device", device});
    EXPECT_EQ(result.code, 2) << device << ": " << result.out;
    return result.err;
  };
  EXPECT_NE(error_of("cpu:1").find("devices of kind 'cpu' have no index: leave out ':1'"),
            std::string::npos);
  for (const char* index : {"x", "", "-1", "1x", "99999"})
    EXPECT_NE(error_of(std::string("cuda:") + index).find("is not an index: give a whole number"),
              std::string::npos)
        << index;
  EXPECT_NE(error_of("tpu:0").find("'tpu'"), std::string::npos);
}

TEST(DeviceIndex, BeyondTheLastSaysHowManyThereAre) {
  const auto result = tests::run_cli({"verify", "--op", "rmsnorm", "--device", "cuda:999"});
  EXPECT_EQ(result.code, 2);
  const bool has_gpu = result.err.find("there is no GPU cuda:999") != std::string::npos;
  EXPECT_TRUE(has_gpu ? result.err.find("shown, cuda:0") != std::string::npos
                      : result.err.find("no NVIDIA GPU") != std::string::npos)
      << result.err;
}

}  // namespace
}  // namespace mlx_kd::cli
