#include "tests/support/new_texts.h"

#include <gtest/gtest.h>

namespace mlx_kd::tests {
namespace {

TEST(NewTexts, AreThoseWithALineInTenThatWasInNoneBefore) {
  const auto numbers = [](int from, int to) {
    std::string text = "// a comment\n\n";
    for (int i = from; i < to; ++i) text += "  line " + std::to_string(i) + "\n";
    return text;
  };
  NewTexts texts;
  EXPECT_TRUE(texts.has_news(numbers(0, 20)));
  EXPECT_FALSE(texts.has_news(numbers(0, 20)));
  EXPECT_FALSE(texts.has_news(numbers(1, 21)));
  EXPECT_TRUE(texts.has_news(numbers(3, 23)));
  EXPECT_FALSE(texts.has_news("// another comment\n"));
}

}  // namespace
}  // namespace mlx_kd::tests
