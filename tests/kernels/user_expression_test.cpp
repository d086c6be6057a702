#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/expression.h"

namespace mlx_kd::kernels::user {
namespace {

int64_t value_of(const std::string& text) {
  return Expression(text).value({{"rows", 10}, {"D", 4096}}, {{"TG", 256}, {"ZERO", 0}});
}

std::string message_of(const std::string& text) {
  try {
    value_of(text);
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "";
}

TEST(UserExpression, HasTheRanksOfC) {
  EXPECT_EQ(value_of("1 + 2 * 3"), 7);
  EXPECT_EQ(value_of("(1 + 2) * 3"), 9);
  EXPECT_EQ(value_of("7 - 2 - 1"), 4);
  EXPECT_EQ(value_of("-7 / 2"), -3);
  EXPECT_EQ(value_of("rows * TG"), 2560);
  EXPECT_EQ(value_of("1 + 1 == 2 && 3 < 4"), 1);
  EXPECT_EQ(value_of("1 > 2 || !0"), 1);
  EXPECT_EQ(value_of("D % TG == 0 ? 5 : 6"), 5);
  EXPECT_EQ(value_of("TG != 256 ? 1 : TG <= 255 ? 2 : 3"), 3);
}

TEST(UserExpression, HasFunctions) {
  EXPECT_EQ(value_of("ceil_div(rows, 4)"), 3);
  EXPECT_EQ(value_of("min(TG, rows, 12)"), 10);
  EXPECT_EQ(value_of("max(1, rows - 20)"), 1);
}

TEST(UserExpression, DividesOnlyWhereItMust) {
  EXPECT_EQ(value_of("ZERO == 0 || D / ZERO > 1"), 1);
  EXPECT_EQ(value_of("ZERO ? D / ZERO : 4"), 4);
}

TEST(UserExpression, NamesTheValuesThatItCannotTake) {
  EXPECT_EQ(
      message_of("D / ZERO"),
      "[tune] expression 'D / ZERO' divides by 0 at D = 4096, ZERO = 0: correct it, or exclude "
      "these values by a constraint");
  EXPECT_NE(message_of("D % ZERO").find("divides by 0"), std::string::npos);
  EXPECT_NE(message_of("9223372036854775807 + rows").find("exceeds 64 bits"), std::string::npos);
  EXPECT_NE(message_of("(0 - 9223372036854775807 - 1) / -1").find("exceeds"), std::string::npos);
}

TEST(UserExpression, NamesThePlaceOfAMistake) {
  for (const char* text : {"", "1 +", "(1", "1 2", "rows * ", "3 $ 4", "min()", "sqrt(4)",
                           "99999999999999999999", "a ? b"})
    EXPECT_NE(message_of(text).find("[tune] expression '"), std::string::npos) << text;
  EXPECT_NE(message_of("cols * 2").find("neither a size nor a knob"), std::string::npos);
  EXPECT_NE(message_of(std::string(5000, '(')).find("nested too deeply"), std::string::npos);
  EXPECT_NE(message_of(std::string(5000, '-') + "1").find("nested too deeply"), std::string::npos);
}

TEST(UserExpression, AListIsSplitAtItsOwnCommas) {
  const auto list = expressions_of("(rows * TG, ceil_div(D, 4), 1)");
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[1].value({{"D", 9}}, {}), 3);
  EXPECT_EQ(expressions_of("(rows) * (TG)").size(), 1u);
  EXPECT_EQ(expressions_of("rows").size(), 1u);
  EXPECT_TRUE(expressions_of("()").empty());
  EXPECT_THROW(expressions_of("(rows,, D)"), base::Error);
}

}  // namespace
}  // namespace mlx_kd::kernels::user
