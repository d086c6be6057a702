#include "mlx_kd/spec/count.h"

#include <gtest/gtest.h>

namespace mlx_kd::spec {
namespace {

TEST(CountOf, TakesWholeNumbersFromZeroOn) {
  for (const char* text : {"0", "7", "18446744073709551615"})
    EXPECT_EQ(std::to_string(count_of(base::Json::parse(text))), text);
  EXPECT_EQ(count_of(base::Json(3)), 3u);  // an int, as code writes it
  for (const char* text : {"-1", "1e300", "2.5", "18446744073709551616", "\"7\"", "null", "[1]"})
    EXPECT_THROW(count_of(base::Json::parse(text)), base::Json::exception) << text;
}

}  // namespace
}  // namespace mlx_kd::spec
