#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;

class CacheVerb : public ::testing::Test {
 protected:
  tests::CliResult kd(const std::vector<std::string>& arguments) const {
    return tests::run_cli(arguments, {.env = {{"MLX_KD_CACHE_DIR", place.path()}}});
  }
  base::Json kd_json(const std::vector<std::string>& arguments) const {
    return base::parse_json(kd(arguments).out, "test", "kd cache");
  }
  tests::TempDir place;
};

TEST_F(CacheVerb, SaysWhereItIsAndHowMuchItHolds) {
  const auto report = kd_json({"cache", "--json"});
  EXPECT_EQ(report["place"], (place / "cpu").string());
  EXPECT_EQ(report["entries"], 0);
  EXPECT_EQ(report["max_bytes"], 512 << 20);
  EXPECT_NE(kd({"cache"}).out.find("0 kernels"), std::string::npos);
}

TEST_F(CacheVerb, ClearEmptiesIt) {
  ASSERT_EQ(kd({"cache"}).code, 0);
  fs::create_directory(place / "cpu" / std::string(64, 'a'));
  EXPECT_EQ(kd_json({"cache", "--json"})["entries"], 1);
  EXPECT_EQ(kd_json({"cache", "--clear", "--json"})["removed_entries"], 1);
  EXPECT_TRUE(fs::is_empty(place / "cpu"));
}

TEST_F(CacheVerb, AFolderOpenToOthersIsMisuse) {
  ::chmod(place.path().c_str(), 0777);
  const auto result = kd({"cache"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("can be written by others"), std::string::npos) << result.err;
}

TEST_F(CacheVerb, UnknownOptionsAreMisuse) {
  EXPECT_EQ(kd({"cache", "--purge"}).code, 2);
}

}  // namespace
}  // namespace mlx_kd::cli
