#include "mlx_kd/base/json.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace mlx_kd::base
