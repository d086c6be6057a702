#include "mlx_kd/msl/text/lexer.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::msl {
namespace {

Tokens tokens_of(SourceSet& sources, const std::string& text) {
  return lex(sources, sources.add("t.metal", text));
}

std::string lex_error(const std::string& text) {
  try {
    SourceSet sources;
    tokens_of(sources, text);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "";
}

TEST(Lexer, KnowsWhereEachTokenStands) {
  SourceSet sources;
  const Tokens tokens = tokens_of(sources, "a /* x\n y */ b\n  c");
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(sources.describe(tokens[0].at), "t.metal:1:1");
  EXPECT_EQ(sources.describe(tokens[1].at), "t.metal:2:7");
  EXPECT_EQ(sources.describe(tokens[2].at), "t.metal:3:3");
  EXPECT_TRUE(tokens[2].line_start);
}

TEST(Lexer, TakesTheLongestMark) {
  SourceSet sources;
  std::string all;
  for (const Token& token : tokens_of(sources, "a>>=b->*c...d##e<<f"))
    all += std::string(token.text) + " ";
  EXPECT_EQ(all, "a >>= b ->* c ... d ## e << f ");
}

TEST(Lexer, ReadsNumbersWhole) {
  for (const char* number : {"1.0f", ".5h", "0x1.8p-3f", "1e+10", "0b1010u", "1'000ul", "2.0bf"}) {
    SourceSet sources;
    const Tokens tokens = tokens_of(sources, number);
    ASSERT_EQ(tokens.size(), 1u) << number;
    EXPECT_EQ(tokens[0].kind, Kind::number);
  }
}

TEST(Lexer, SplicesLines) {
  SourceSet sources;
  const Tokens tokens = tokens_of(sources, "a \\\n b");
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_FALSE(tokens[1].line_start);
  EXPECT_EQ(tokens[1].at.line, 2u);
}

TEST(Lexer, NamesThePlaceOfWhatItCannotRead) {
  EXPECT_EQ(lex_error("a\n /* b").substr(0, 20), "[msl] t.metal:2:2: t");
  EXPECT_EQ(lex_error("x = \"abc\n\"").substr(0, 20), "[msl] t.metal:1:5: t");
  EXPECT_EQ(lex_error("a\nb $").substr(0, 20), "[msl] t.metal:2:3: a");
  EXPECT_NE(lex_error("\"a\\"), "");
}

TEST(Sources, RefuseBinaryAndHugeTexts) {
  EXPECT_EQ(lex_error(std::string("kernel\n\0\x01", 9)).substr(0, 18), "[msl] t.metal:2:1:");
  EXPECT_EQ(lex_error("a\n \xff\xfe").substr(0, 18), "[msl] t.metal:2:2:");
  EXPECT_NE(lex_error("\xed").find("UTF-8"), std::string::npos);
  EXPECT_EQ(lex_error("// \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "");
  EXPECT_NE(lex_error(std::string(10u << 20, ' ')).find("10485760 bytes"), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::msl
