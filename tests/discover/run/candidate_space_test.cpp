#include "mlx_kd/discover/run/candidate_space.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

spec::Variant variant(const std::string& name, std::vector<spec::Knob> knobs) {
  spec::Variant result;
  result.name = name;
  result.language = "cpp";
  result.source = "// " + name;
  result.func_name = name;
  result.launch_kind = "rows";
  result.space = [knobs](spec::Dtype, const spec::DeviceTraits&) {
    spec::Space space{knobs, {}};
    space.constraints.push_back({"A is not 4 with B 2", {"A", "B"}, [](const int64_t* v) {
                                   return v[0] != 4 || v[1] != 2;
                                 }});
    return space;
  };
  return result;
}

spec::Op op_with(std::vector<spec::Variant> variants) {
  spec::Op op;
  op.name = "op";
  op.dims = {{"rows"}};
  op.suites = {{"one", {{{"rows", 1}}}}};
  op.variants = std::move(variants);
  return op;
}

const std::vector<spec::Knob> kKnobs = {
    {"A", {1, 2, 4}}, {"B", {1, 2}, spec::KnobScale::linear, spec::KnobRole::launch}};

size_t count_valid(const spec::Space& space) {
  std::vector<size_t> at(space.knobs.size(), 0);
  size_t count = 0;
  while (true) {
    spec::Setting setting;
    for (size_t k = 0; k < at.size(); ++k)
      setting.set(space.knobs[k].name, space.knobs[k].values[at[k]]);
    count += spec::is_valid(space, setting);
    size_t k = 0;
    while (k < at.size() && ++at[k] == space.knobs[k].values.size()) at[k++] = 0;
    if (k == at.size()) return count;
  }
}

TEST(CandidateSpace, OneVariantKeepsItsOwnKnobs) {
  const spec::Op op = op_with({variant("one", kKnobs)});
  const CandidateSpace space(op, {"cpp"}, spec::Dtype::float16, {}, {{"rows", 1}});
  EXPECT_EQ(space.space().knobs.size(), 2u);
  EXPECT_EQ(count_valid(space.space()), 5u);
  const auto candidate = space.candidate({{"A", 2}, {"B", 2}});
  EXPECT_EQ(candidate.launch_params, base::Json::parse(R"({"launch_kind": "rows", "B": 2})"));
  EXPECT_EQ(space.point(candidate), spec::Setting({{"A", 2}, {"B", 2}}));
}

TEST(CandidateSpace, VariantsAreJoinedWithoutTwins) {
  const spec::Op op = op_with({variant("one", kKnobs), variant("two", kKnobs)});
  const CandidateSpace space(op, {"cpp"}, spec::Dtype::float16, {}, {{"rows", 1}});
  EXPECT_EQ(count_valid(space.space()), 10u);
  const auto point =
      spec::Setting({{"variant", 1}, {"one.A", 1}, {"one.B", 1}, {"two.A", 4}, {"two.B", 1}});
  const auto candidate = space.candidate(point);
  EXPECT_EQ(candidate.variant, "two");
  EXPECT_EQ(candidate.knobs, spec::Setting({{"A", 4}, {"B", 1}}));
  EXPECT_EQ(space.point(candidate), point);
}

TEST(CandidateSpace, OfSeveralLanguagesBothAreSearchedAndToldApart) {
  spec::Variant metal = variant("rows", kKnobs), cuda = metal, other = metal;
  metal.language = "metal";
  cuda.language = "cuda";
  const spec::Op op = op_with({other, metal, cuda});
  const CandidateSpace space(op, {"metal", "cuda"}, spec::Dtype::float16, {}, {{"rows", 1}});
  EXPECT_EQ(count_valid(space.space()), 10u);
  EXPECT_EQ(space.space().knobs[0].labels, (std::vector<std::string>{"metal/rows", "cuda/rows"}));
  const auto point = spec::Setting({{"variant", 1},
                                    {"metal/rows.A", 1},
                                    {"metal/rows.B", 1},
                                    {"cuda/rows.A", 4},
                                    {"cuda/rows.B", 1}});
  EXPECT_EQ(space.candidate(point).language, "cuda");
  EXPECT_EQ(space.point(space.candidate(point)), point);
}

TEST(CandidateSpace, TheDefaultIsOfTheFirstLanguageAndOfAVariantMeantForTheSize) {
  spec::Variant metal = variant("rows", kKnobs), cuda = metal, for_many = metal;
  metal.language = "metal";
  cuda.language = for_many.language = "cuda";
  for_many.name = "many";
  for_many.suits = [](const spec::Dims& dims) { return dims.at("rows") > 16; };
  const spec::Op op = op_with({metal, for_many, cuda});
  const auto default_of = [&](int64_t rows) {
    const CandidateSpace space(op, {"cuda", "metal"}, spec::Dtype::float16, {}, {{"rows", rows}});
    return space.candidate(space.default_point());
  };
  EXPECT_EQ(default_of(17).variant, "many");
  EXPECT_EQ(default_of(16).variant, "rows");
  EXPECT_EQ(default_of(16).language, "cuda");
  EXPECT_EQ(default_of(16).knobs, spec::Setting({{"A", 1}, {"B", 1}}));
}

TEST(CandidateSpace, ALanguageWithoutVariantIsRefused) {
  const spec::Op op = op_with({variant("one", kKnobs)});
  EXPECT_THROW(CandidateSpace(op, {"metal"}, spec::Dtype::float16, {}, {}), base::Error);
}

}  // namespace
}  // namespace mlx_kd::discover
