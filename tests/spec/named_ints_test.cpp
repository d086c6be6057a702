#include "mlx_kd/spec/named_ints.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

TEST(NamedInts, ParsesWhatTextWrites) {
  const auto dims = Dims::parse("rows=1,D=4096");
  EXPECT_EQ(dims.text(), "rows=1,D=4096");
  EXPECT_EQ(dims, Dims({{"D", 4096}, {"rows", 1}})) << "order does not matter";
  EXPECT_EQ(Dims::from_json(dims.json()), dims);
}

TEST(NamedInts, RefusesWhatIsNoListOfIntegers) {
  for (const char* text : {"", "rows", "rows=", "=3", "rows=1,", "rows=1,rows=2", "rows=1.5",
                           "rows=99999999999999999999"})
    EXPECT_THROW(Dims::parse(text), base::Error) << text;
  for (const char* text : {"[]", "{\"D\": 1.5}", "{\"D\": \"1\"}", "{\"D\": 18446744073709551615}"})
    EXPECT_THROW(Dims::from_json(base::Json::parse(text)), base::Error) << text;
}

}  // namespace
}  // namespace mlx_kd::spec
