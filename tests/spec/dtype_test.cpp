#include "mlx_kd/spec/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

TEST(Dtype, EveryStoredValueSurvivesARoundTrip) {
  for (Dtype dtype : {Dtype::float16, Dtype::bfloat16})
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const auto stored = static_cast<uint16_t>(bits);
      const float value = load_element(&stored, 0, dtype);
      uint16_t again = 0;
      store_element(&again, 0, dtype, value);
      if (std::isnan(value))
        EXPECT_TRUE(std::isnan(load_element(&again, 0, dtype)));
      else
        EXPECT_EQ(again, stored) << name_of(dtype);
    }
}

TEST(Dtype, RoundsToNearestEven) {
  const auto rounded = [](Dtype dtype, float value) {
    uint16_t bits = 0;
    store_element(&bits, 0, dtype, value);
    return load_element(&bits, 0, dtype);
  };
  EXPECT_EQ(rounded(Dtype::float16, 1 + 0x1p-11f), 1.0f);
  EXPECT_EQ(rounded(Dtype::float16, 1 + 0x1.8p-10f), 1 + 0x1p-9f);
  EXPECT_EQ(rounded(Dtype::float16, 65519.0f), 65504.0f);
  EXPECT_TRUE(std::isinf(rounded(Dtype::float16, 65520.0f)));
  EXPECT_EQ(rounded(Dtype::float16, 0x1.8p-24f), 0x1p-23f);
  EXPECT_EQ(rounded(Dtype::float16, -0x1p-25f), -0.0f);
  EXPECT_EQ(rounded(Dtype::bfloat16, 1 + 0x1p-8f), 1.0f);
  EXPECT_EQ(rounded(Dtype::bfloat16, 1 + 0x1.8p-7f), 1 + 0x1p-6f);
}

TEST(Dtype, Float64IsAFloatingPointTypeThatMostOpsDoNotTake) {
  double stored = 0;
  store_number(&stored, 0, Dtype::float64, 1 + 0x1p-52);
  EXPECT_EQ(stored, 1 + 0x1p-52);
  EXPECT_EQ(load_number(&stored, 0, Dtype::float64), 1 + 0x1p-52);
  EXPECT_EQ(size_of(Dtype::float64), 8);
  EXPECT_EQ(unit_roundoff(Dtype::float64), 0x1p-53);
  EXPECT_TRUE(is_float(Dtype::float64));
  EXPECT_EQ(parse_float_dtype("float64"), Dtype::float64);
  EXPECT_THROW(parse_float_dtype("int32"), base::Error);
}

}  // namespace
}  // namespace mlx_kd::spec
