#include "mlx_kd/evaluate/proof/check_output.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace mlx_kd::evaluate {
namespace {

using spec::Dtype;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// `count` elements of value 1, one of which a test changes.
struct ComparedArrays {
  ComparedArrays(int64_t count, Dtype type)
      : dtype(type),
        output(static_cast<size_t>(count * spec::size_of(type))),
        mlx(output.size()),
        y64(static_cast<size_t>(count), 1.0),
        bound(static_cast<size_t>(count), 0.01f) {
    for (int64_t i = 0; i < count; ++i) set(i, 1, 1, 1, 0.01f);
  }
  void set(int64_t i, double y, double m, double reference, float allowed) {
    spec::store_element(output.data(), i, dtype, static_cast<float>(y));
    spec::store_element(mlx.data(), i, dtype, static_cast<float>(m));
    y64[static_cast<size_t>(i)] = reference;
    bound[static_cast<size_t>(i)] = allowed;
  }
  Compared all() const {
    return {output.data(), mlx.data(), y64.data(), bound.data(), int64_t(y64.size()), dtype};
  }
  Dtype dtype;
  std::vector<char> output, mlx;
  std::vector<double> y64;
  std::vector<float> bound;
};

class CompareOf : public testing::TestWithParam<Dtype> {};
INSTANTIATE_TEST_SUITE_P(EachType, CompareOf, testing::ValuesIn(spec::float_dtypes()));

TEST_P(CompareOf, OfAnElementThatWasLeftOutAnyNumberIsRight) {
  ComparedArrays arrays(1000, GetParam());
  for (const int64_t i : {7, 300, 999}) arrays.set(i, 1e4, 0, 0, std::numeric_limits<float>::max());
  const Comparison found = compare(arrays.all());
  EXPECT_EQ(found.first_wrong, -1);
  EXPECT_EQ(found.max_abs_err, 0) << "of the others";
  arrays.set(300, kNan, 0, 0, std::numeric_limits<float>::max());
  EXPECT_EQ(compare(arrays.all()).first_wrong, 300);
}

TEST_P(CompareOf, EqualArraysUseNoneOfTheBound) {
  const ComparedArrays arrays(1000, GetParam());
  const Comparison found = compare(arrays.all());
  EXPECT_EQ(found.first_wrong, -1);
  EXPECT_EQ(found.bound_used, 0);
  EXPECT_TRUE(found.same_bits);
}

TEST_P(CompareOf, FindsOneWrongElementWhereverItIs) {
  for (int64_t at : {0, 255, 256, 511, 999}) {
    ComparedArrays arrays(1000, GetParam());
    arrays.set(at, 1.5, 1, 1, 0.01f);
    const Comparison found = compare(arrays.all());
    EXPECT_EQ(found.first_wrong, at);
    EXPECT_DOUBLE_EQ(found.max_abs_err, 0.5);
    EXPECT_NEAR(found.bound_used, 50, 1e-3);
    EXPECT_FALSE(found.same_bits);
  }
}

TEST_P(CompareOf, EveryFiniteValueIsReadAsTheTypeSays) {
  const bool narrow = GetParam() != Dtype::float32;
  const int64_t count = narrow ? 65536 : 4096;
  ComparedArrays arrays(count, GetParam());
  for (int64_t i = 0; i < count && narrow; ++i)
    reinterpret_cast<uint16_t*>(arrays.output.data())[i] = static_cast<uint16_t>(i);
  arrays.mlx = arrays.output;
  for (int64_t i = 0; i < count; ++i)
    arrays.y64[size_t(i)] = spec::load_element(arrays.output.data(), i, GetParam());
  EXPECT_EQ(compare(arrays.all()).first_wrong, -1);
  EXPECT_EQ(compare(arrays.all()).bound_used, 0);
}

struct Special {
  const char* what;
  double y, mlx, y64;
  float bound;
  bool right;
};

class CompareSpecial : public testing::TestWithParam<Special> {};
INSTANTIATE_TEST_SUITE_P(
    Values, CompareSpecial,
    testing::Values(Special{"NaN as MLX", kNan, kNan, kNan, 0.1f, true},
                    Special{"NaN where MLX is finite", kNan, 1, 1, 0.1f, false},
                    Special{"finite where MLX is NaN", 1, kNan, 1, 0.1f, false},
                    Special{"infinite as MLX", kInf, kInf, kInf, 0.1f, true},
                    Special{"the other infinity", -kInf, kInf, kInf, 0.1f, false},
                    Special{"infinite for no reason", kInf, 1, 1, 0.1f, false},
                    Special{"overflow within the bound", kInf, 65504, 65500, 100.0f, true},
                    Special{"overflow beyond the bound", kInf, 65504, 60000, 100.0f, false},
                    Special{"MLX overflows within the bound", 65504, kInf, 65510, 100.0f, true},
                    Special{"finite where MLX is infinite", 1, kInf, kInf, 100.0f, false}));

TEST_P(CompareSpecial, FollowsMlxButForRoundingNearTheLargestNumber) {
  const Special& s = GetParam();
  for (int64_t count : {1, 300}) {
    ComparedArrays arrays(count, Dtype::float16);
    arrays.set(0, s.y, s.mlx, s.y64, s.bound);
    EXPECT_EQ(compare(arrays.all()).first_wrong, s.right ? -1 : 0) << s.what;
  }
}

TEST(Compare, ExplainsWithAllValues) {
  ComparedArrays arrays(1, Dtype::float32);
  arrays.set(0, 1.5, 2, 2.25, 0.5f);
  EXPECT_EQ(explain(arrays.all(), 0),
            "element 0 is 1.5, float64 says 2.25 with a bound of 0.5, MLX says 2");
}

}  // namespace
}  // namespace mlx_kd::evaluate
