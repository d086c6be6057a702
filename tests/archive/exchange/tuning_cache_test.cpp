#include "mlx_kd/archive/exchange/tuning_cache.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <fstream>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

Json small_cache() {
  return Json::parse(R"({
    "device_name": "GPU", "kernel_name": "k", "objective": "time",
    "tune_params_keys": ["x", "scale", "method"],
    "tune_params": {"x": [16, 32, 64], "scale": [0.5, 0.25], "method": ["a", "b"]},
    "cache": {
      "16,0.5,a": {"x": 16, "scale": 0.5, "method": "a", "time": 2.5, "times": [2, 3],
        "compile_time": 10, "framework_time": 1, "strategy_time": 0, "verification_time": 4},
      "64,0.25,b": {"x": 64, "scale": 0.25, "method": "b", "time": "RuntimeFailedConfig",
        "compile_time": 20, "framework_time": 0, "strategy_time": 0, "verification_time": 0}}})");
}

std::string gzipped(const std::string& text) {
  z_stream z{};
  deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string bytes(deflateBound(&z, text.size()) + 64, '\0');
  std::string input = text;
  z.next_in = reinterpret_cast<Bytef*>(input.data());
  z.avail_in = static_cast<uInt>(input.size());
  z.next_out = reinterpret_cast<Bytef*>(bytes.data());
  z.avail_out = static_cast<uInt>(bytes.size());
  deflate(&z, Z_FINISH);
  bytes.resize(z.total_out);
  deflateEnd(&z);
  return bytes;
}

class Caches : public ::testing::Test {
 protected:
  std::string write(const std::string& bytes) {
    std::ofstream(place_ / "cache.json", std::ios::binary) << bytes;
    return (place_ / "cache.json").string();
  }
  std::string refusal_of(const std::string& bytes) {
    try {
      read_tuning_cache(write(bytes));
    } catch (const base::Error& error) {
      EXPECT_EQ(error.exit_code(), 2);
      return error.what();
    }
    ADD_FAILURE() << "took " << bytes.substr(0, 60);
    return "";
  }
  void expect_refused(const Json& cache, const std::string& word) {
    EXPECT_NE(refusal_of(cache.dump()).find(word), std::string::npos) << refusal_of(cache.dump());
  }
  tests::TempDir place_;
};

TEST_F(Caches, AreReadPlainAndGzipped) {
  const std::string text = small_cache().dump();
  for (const std::string& bytes : {text, gzipped(text)}) {
    const TuningCache cache = read_tuning_cache(write(bytes));
    EXPECT_EQ(cache.device, "GPU");
    ASSERT_EQ(cache.points.size(), 2u);
    EXPECT_EQ(cache.points[0], (std::vector<uint8_t>{0, 0, 0}));
    EXPECT_EQ(cache.points[1], (std::vector<uint8_t>{2, 1, 1}));
    EXPECT_EQ(cache.times[0], 2.5);
    EXPECT_TRUE(std::isnan(cache.times[1]));
    EXPECT_EQ(cache.costs, (std::vector<double>{20, 20}));
    EXPECT_EQ(cache.runs, (std::vector<std::vector<double>>{{2, 3}, {}}));
  }
}

TEST_F(Caches, GiveEachParameterItsScale) {
  const spec::Space space = read_tuning_cache(write(small_cache().dump())).space;
  EXPECT_EQ(space.knobs[0].scale, spec::KnobScale::log2);
  EXPECT_EQ(space.knobs[1].scale, spec::KnobScale::linear);
  EXPECT_EQ(space.knobs[1].values, (std::vector<int64_t>{1, 0}));  // by size
  EXPECT_EQ(space.knobs[2].scale, spec::KnobScale::choice);
  EXPECT_EQ(space.knobs[2].labels, (std::vector<std::string>{"\"a\"", "\"b\""}));
}

TEST_F(Caches, WithMissingFieldsNameThem) {
  for (const char* field :
       {"device_name", "kernel_name", "tune_params_keys", "tune_params", "cache"}) {
    Json cache = small_cache();
    cache.erase(field);
    expect_refused(cache, field);
  }
  for (const char* field : {"x", "time", "times", "compile_time", "framework_time"}) {
    Json cache = small_cache();
    cache["cache"]["16,0.5,a"].erase(field);
    expect_refused(cache, field);
    expect_refused(cache, "16,0.5,a");
  }
}

TEST_F(Caches, ThatDoNotSayWhatTheyWereTunedForWereTunedForTime) {
  Json cache = small_cache();
  cache.erase("objective");
  EXPECT_EQ(read_tuning_cache(write(cache.dump())).times[0], 2.5);
}

TEST_F(Caches, HaveFailuresAsTimesOf1e20AndMore) {
  Json cache = small_cache();
  for (const double time : {1e20, 1e30}) {
    cache["cache"]["16,0.5,a"]["time"] = time;
    expect_refused(cache, "no valid configuration");
  }
}

TEST_F(Caches, OfAJobThatWasKilledAreReadAsFarAsTheyAreWhole) {
  Json head = small_cache();
  const Json entries = head["cache"];
  head.erase("cache");
  std::string text = head.dump();
  text.back() = ',';
  text += "\"cache\":" + entries.dump();
  text.pop_back();  // the brackets at the end are missing, after a comma or not
  for (const std::string& cut :
       {text, text + ",\n", text + ",\n  ", text + ",\"16,1,a\":{\"x\":16,\"ti"})
    EXPECT_EQ(read_tuning_cache(write(cut)).points.size(), 2u) << cut;
  EXPECT_THROW(read_tuning_cache(write(text.substr(0, 60))), base::Error);
  EXPECT_THROW(read_tuning_cache(write("{\"a\":[1,2")), base::Error);
}

TEST_F(Caches, OfAnotherObjectiveAreRefused) {
  Json cache = small_cache();
  cache["objective"] = "GFLOP/s";
  expect_refused(cache, "'GFLOP/s'");
}

TEST_F(Caches, WithoutAValidConfigurationAreRefused) {
  Json cache = small_cache();
  cache["cache"].erase("16,0.5,a");
  expect_refused(cache, "no valid configuration");
  cache["cache"] = Json::object();
  expect_refused(cache, "no valid configuration");
}

TEST_F(Caches, WithOneValidConfigurationAreRead) {
  EXPECT_EQ(read_tuning_cache(write(small_cache().dump())).times.size(), 2u);
}

TEST_F(Caches, WithTimesThatAreNoneAreRefused) {
  for (const Json& time : {Json(0), Json(-1.5), Json(nullptr), Json(Json::array()), Json("NaN")}) {
    Json cache = small_cache();
    cache["cache"]["16,0.5,a"]["time"] = time;
    expect_refused(cache, "16,0.5,a");
  }
  std::string nan = small_cache().dump();
  nan.replace(nan.find("2.5"), 3, "NaN");
  EXPECT_NE(refusal_of(nan).find("JSON"), std::string::npos) << refusal_of(nan);
}

TEST_F(Caches, WithValuesOutsideTheSpaceAreRefused) {
  Json cache = small_cache();
  cache["cache"]["16,0.5,a"]["x"] = 17;
  expect_refused(cache, "'x'");
  cache = small_cache();
  cache["cache"]["64,0.25,b"] = cache["cache"]["16,0.5,a"];
  expect_refused(cache, "twice");
  cache = small_cache();
  cache["tune_params"]["x"] = Json::array();
  expect_refused(cache, "'x'");
}

TEST_F(Caches, CutShortOrDamagedAreRefused) {
  const std::string whole = gzipped(small_cache().dump());
  for (size_t bytes : {size_t{3}, size_t{12}, whole.size() / 2, whole.size() - 1})
    EXPECT_NE(refusal_of(whole.substr(0, bytes)).find("cut short"), std::string::npos) << bytes;
  std::string damaged = whole;
  damaged[whole.size() / 2] = static_cast<char>(damaged[whole.size() / 2] ^ 0x55);
  EXPECT_NE(refusal_of(damaged).find("damaged"), std::string::npos);
  EXPECT_NE(refusal_of("").find("JSON"), std::string::npos);
  EXPECT_NE(refusal_of("[1, 2]").find("no object"), std::string::npos);
}

TEST(Gzip, RefusesMoreThanItIsAllowed) {
  EXPECT_EQ(gunzip(gzipped(std::string(5000, 'x')), "test", 5000).size(), 5000u);
  EXPECT_THROW(gunzip(gzipped(std::string(5001, 'x')), "test", 5000), base::Error);
  EXPECT_EQ(gunzip(gzipped("one") + gzipped("two"), "test"), "onetwo");
}

}  // namespace
}  // namespace mlx_kd::archive
