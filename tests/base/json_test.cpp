#include "mlx_kd/base/json.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

// Texts as Python's json.dumps(value, sort_keys=True, separators=(",", ":")) writes them.
TEST(CanonicalJson, WritesWhatPythonWrites) {
  EXPECT_EQ(canonical_json(Json::parse(R"({"b": 1, "a": [1e-06, 0.0001, 1e16, 2.5, 1.0]})")),
            R"({"a":[1e-06,0.0001,1e+16,2.5,1.0],"b":1})");
  EXPECT_EQ(canonical_json(Json("\xc3\xa9\n")), "\"\\u00e9\\n\"");
}

TEST(ParseJson, NamesTheOriginAndLimitsTheDepth) {
  try {
    parse_json("{\"a\":", "packs", "pins.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("[packs] pins.json is not JSON"), std::string::npos)
        << error.what();
    EXPECT_EQ(error.exit_code(), 2);
  }
  EXPECT_THROW(parse_json(std::string(1000, '['), "packs", "x"), Error);
}

TEST(ParseJson, SaysWhereTheTextIsNotJsonAndWhatIsThere) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_json(text, "packs", "x");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("{\n  \"a\": 1,\n}").find("(line 3, column 1: found '}')"), std::string::npos);
  EXPECT_NE(message("").find("(line 1, column 1: found the end)"), std::string::npos);
  EXPECT_NE(message("[1,\n2").find("(line 2, column 2: found the end)"), std::string::npos);
  EXPECT_NE(message("[\"a\nb\"]").find("found the end of the line"), std::string::npos);
  EXPECT_NE(message("[\x01]").find("column 2: found byte 0x01"), std::string::npos);
}

TEST(ParseJson, RefusesAKeyThatStandsTwiceInOneObject) {
  EXPECT_THROW(parse_json(R"({"a": 1, "b": {"c": 1, "c": 2}})", "packs", "x"), Error);
  EXPECT_THROW(parse_json(R"({"a": {"b": 1}, "a": 2})", "packs", "x"), Error);
  EXPECT_EQ(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", "packs", "x").size(), 2u);
}

TEST(ParseJson, RefusesANumberThatNoDoubleHolds) {
  EXPECT_THROW(parse_json("[1e999]", "packs", "x"), Error);
}

TEST(ParseJson, BuildsWhatTheLibraryBuilds) {
  for (const std::string text :
       {"null", "true", "-3", "18446744073709551615", "2.5e-3", "\"a\\u00e9\\n\"", "[]", "{}",
        R"({"a": [1, [2, {"b": null}], {}, "c"], "d": {"e": {"f": [false]}, "g": -0.0}})"})
    EXPECT_EQ(parse_json(text, "packs", "x"), Json::parse(text)) << text;
}

TEST(ParseJson, TakesSixtyFourLevelsAndNoMore) {
  const auto nested = [](size_t levels) {
    return std::string(levels, '[') + "1" + std::string(levels, ']');
  };
  EXPECT_EQ(parse_json(nested(64), "packs", "x").dump(), nested(64));
  EXPECT_THROW(parse_json(nested(65), "packs", "x"), Error);
}

TEST(ParseJson, TakesTimeThatGrowsWithTheText) {
  const auto cost = [](int members) {
    std::string text = "{";
    for (int i = 0; i < members; ++i)
      text += (i ? ",\"" : "\"") + std::to_string(i) + "\":{\"a\":[{}]}";
    text += "}";
    double least = HUGE_VAL;
    for (int repeat = 0; repeat < 3; ++repeat) {
      const std::clock_t begin = std::clock();
      EXPECT_EQ(parse_json(text, "packs", "x").size(), size_t(members));
      least = std::min(least, static_cast<double>(std::clock() - begin));
    }
    return least;
  };
  EXPECT_LT(cost(16000), 24 * cost(2000));  // 64 times as long if each member costs all
}

}  // namespace
}  // namespace mlx_kd::base
