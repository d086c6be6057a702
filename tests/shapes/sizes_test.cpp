#include "mlx_kd/shapes/sizes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;
using spec::Dims;

spec::Port port(const std::string& name, std::function<spec::Shape(const Dims&)> shape) {
  return {name, std::move(shape)};
}

// Like swiglu: N is derived.
spec::Op rows_op() {
  spec::Op op;
  op.name = "rows_op";
  op.dims = {{"rows"}, {"D"}};
  const auto whole = [](const Dims& d) { return spec::Shape{d.at("rows"), d.at("D")}; };
  op.inputs = {port("gate", whole), port("up", whole)};
  op.outputs = {port("out", whole)};
  op.suites = {{"small", {{{"rows", 128}, {"D", 2048}}, {{"rows", 256}, {"D", 2048}}}},
               {"decode", {{{"rows", 1}, {"D", 2048}}}}};
  op.complete = [](const Dims& given) {
    Dims dims = given;
    dims.set("N", given.at("rows") * given.at("D"));
    return dims;
  };
  return op;
}

// Like rope: refuses what it cannot mean.
spec::Op even_op() {
  spec::Op op;
  op.name = "even_op";
  op.dims = {{"B"}, {"D_ROPE"}};
  op.inputs = {port("x", [](const Dims& d) { return spec::Shape{d.at("B"), d.at("D_ROPE")}; })};
  op.suites = {{"mla", {{{"B", 1}, {"D_ROPE", 64}}}}};
  op.complete = [](const Dims& given) {
    if (given.at("D_ROPE") % 2) base::misuse("kernels", "D_ROPE is odd: pairs are rotated");
    return given;
  };
  return op;
}

Dims rows_dims(int64_t rows, int64_t d) {
  return {{"rows", rows}, {"D", d}, {"N", rows * d}};
}

class SizesFrom : public testing::Test {
 protected:
  SizesFrom() {
    std::string name = (fs::temp_directory_path() / "mlx_kd_shapes.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~SizesFrom() override { fs::remove_all(folder_); }

  std::string file(const std::string& text) {
    const fs::path path = folder_ / "sizes.json";
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  fs::path folder_;
};

std::vector<Dims> given(const std::vector<std::string>& shapes) {
  return sizes_from(rows_op(), "", shapes).sizes;
}

void expect_misuse(const std::vector<std::string>& shapes, const std::vector<std::string>& parts) {
  try {
    given(shapes);
    ADD_FAILURE() << "no misuse of " << shapes[0];
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_F(SizesFrom, ListsOfValuesAreAllTheirCombinations) {
  const auto sizes = sizes_from(rows_op(), "", {"rows=1|2,D=4|8"}).sizes;
  EXPECT_EQ(sizes, (std::vector<Dims>{rows_dims(1, 4), rows_dims(1, 8), rows_dims(2, 4),
                                      rows_dims(2, 8)}));
  EXPECT_EQ(sizes_from(rows_op(), "", {"rows=1|1,D=4", "rows=1,D=4"}).sizes.size(), 1u);
  for (const char* bad : {"rows=1|,D=4", "rows=|1,D=4", "rows=1|x,D=4", "rows|D=1"})
    EXPECT_THROW(sizes_from(rows_op(), "", {bad}), base::Error) << bad;
  std::string many = "rows=1";
  for (int i = 2; i < 10002; ++i) many += "|" + std::to_string(i);
  EXPECT_THROW(sizes_from(rows_op(), "", {many + ",D=4"}), base::Error);
}

TEST_F(SizesFrom, WithoutOptionsAreTheFirstSuite) {
  const Sizes sizes = sizes_from(rows_op(), "", {});
  EXPECT_EQ(sizes.suite_name, "small");
  EXPECT_EQ(sizes.sizes, (std::vector<Dims>{rows_dims(128, 2048), rows_dims(256, 2048)}));
}

TEST_F(SizesFrom, OfASuiteByName) {
  EXPECT_EQ(sizes_from(rows_op(), "decode", {}).sizes, std::vector<Dims>{rows_dims(1, 2048)});
}

TEST_F(SizesFrom, OfASuiteThatTheOpLacksNamesTheOpsThatHaveIt) {
  const std::vector<spec::Op> all = {even_op(), rows_op()};
  try {
    sizes_from(rows_op(), "mla", {}, all);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_STREQ(error.what(),
                 "[shapes] suite 'mla' is not for op 'rows_op' but for 'even_op': suites of "
                 "'rows_op' are 'small' or 'decode'");
  }
  try {
    sizes_from(rows_op(), "huge", {}, all);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_STREQ(error.what(),
                 "[shapes] there is no suite 'huge': suites of 'rows_op' are 'small' or 'decode'");
  }
}

TEST_F(SizesFrom, OfAnOpWithoutSuitesMustBeGiven) {
  spec::Op op = rows_op();
  op.suites.clear();
  EXPECT_THROW(sizes_from(op, "", {}), base::Error);
  EXPECT_EQ(sizes_from(op, "", {"rows=1,D=8"}).sizes.size(), 1u);
}

TEST_F(SizesFrom, GivenOnesComeInOrderAndOnce) {
  const Sizes sizes =
      sizes_from(rows_op(), "", {"rows=4,D=64", "D=32,rows=2", "rows=4,D=64", "rows=1,D=64"});
  EXPECT_EQ(sizes.suite_name, kCustom);
  EXPECT_EQ(sizes.sizes, (std::vector<Dims>{rows_dims(4, 64), rows_dims(2, 32), rows_dims(1, 64)}));
  EXPECT_EQ(sizes.sizes[1].text(), "rows=2,D=32,N=64");  // in the op's order of names
}

TEST_F(SizesFrom, OfAFileMayBeAListOrStandUnderSizes) {
  const std::vector<Dims> expected = {rows_dims(1, 64), rows_dims(2, 64)};
  EXPECT_EQ(given({file(R"([{"rows": 1, "D": 64}, {"D": 64, "rows": 2}])")}), expected);
  EXPECT_EQ(given({file(R"({"sizes": [{"rows": 1, "D": 64}, {"rows": 2, "D": 64}]})")}), expected);
  EXPECT_EQ(given({"rows=1,D=64", file(R"([{"rows": 2, "D": 64}])"), "rows=1,D=64"}), expected);
}

TEST_F(SizesFrom, BesideASuiteAreRefused) {
  EXPECT_THROW(sizes_from(rows_op(), "small", {"rows=1,D=2"}), base::Error);
}

TEST_F(SizesFrom, OfABadFileAreRefusedByName) {
  expect_misuse({(folder_ / "none.json").string()}, {"[shapes]", "none.json"});
  expect_misuse({folder_.string()}, {"is a folder"});
  expect_misuse({file("")}, {"sizes.json is not JSON"});
  expect_misuse({file("rows: 1")}, {"sizes.json is not JSON"});
  expect_misuse({file("[]")}, {"sizes.json holds no sizes"});
  expect_misuse({file("{}")}, {"sizes.json holds no sizes"});
  expect_misuse({file("{\"sizes\": []}")}, {"sizes.json holds no sizes"});
  expect_misuse({file("7")}, {"sizes.json holds no sizes"});
  expect_misuse({file("[{\"rows\": 1, \"D\": 2}, 7]")}, {"sizes.json, size 2", "not an object"});
  expect_misuse({file("[{\"rows\": 1.5, \"D\": 2}]")}, {"sizes.json, size 1", "'rows'"});
  expect_misuse({file("[{\"rows\": 18446744073709551615, \"D\": 2}]")}, {"'rows'", "64 bits"});
  expect_misuse({file("[{\"rows\": 1, \"rows\": 2, \"D\": 2}]")}, {"'rows' twice"});
  expect_misuse({file("[{\"rows\": 1}]")}, {"'rows=1' lacks 'D'"});
}

TEST_F(SizesFrom, OfBadTextAreRefused) {
  expect_misuse({"rows=1"}, {"'rows=1' lacks 'D'", "'rows_op'"});
  expect_misuse({"D=x,rows=1"}, {"name=integer"});
  expect_misuse({"rows=1,D=2,rows=1"}, {"'rows' occurs twice"});
  expect_misuse({"rows=1,D=2,N=2"}, {"'N' is not a size of op 'rows_op'", "'rows' or 'D'"});
  expect_misuse({"rows=0,D=2"}, {"'rows' is 0", "at least 1"});
  expect_misuse({"rows=1,D=-2"}, {"'D' is -2"});
  expect_misuse({"rows=99999999999999999999,D=2"}, {"does not fit 64 bits"});
}

TEST_F(SizesFrom, ThatNoMemoryHoldsAreRefused) {
  // Three arrays of rows x D elements, 8 bytes each: 2^42 elements fit in 2^47 bytes, 2^43 do not.
  EXPECT_EQ(given({"rows=4398046511104,D=1"}).size(), 1u);
  expect_misuse({"rows=8796093022208,D=1"}, {"2^47"});
  expect_misuse({"rows=4294967296,D=4294967296"}, {"2^47"});  // rows x D overflows
  expect_misuse({"rows=9223372036854775807,D=2"}, {"2^47"});
}

TEST_F(SizesFrom, ThatTheOpRefusesAreMisuse) {
  EXPECT_THROW(sizes_from(even_op(), "", {"B=1,D_ROPE=63"}), base::Error);
  EXPECT_EQ(sizes_from(even_op(), "", {"B=1,D_ROPE=62"}).sizes.size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::shapes
