// What the table refuses when it is made: the field and what is wrong with it.
#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/op/limits.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::spec {
namespace {

Shape one_axis(const Dims& dims) {
  return {dims.at("n")};
}

// y = x: an op without faults.
Op sound_op() {
  Op op;
  op.name = "sound";
  op.inputs = {{"x", one_axis}};
  op.outputs = {{"y", one_axis}};
  op.dims = {{"n"}};
  op.scalars = {{"factor", 0.5, {0.5, -3.0}}};
  op.suites = {{"only", {{{"n", 4}}}}};
  op.bound = [](const Dims&) { return ErrorBound{1, "copied"}; };
  op.reference = [](const std::vector<const void*>&, Dtype, const Dims&,
                    const std::vector<double>&) { return std::vector<Reference64>(1); };
  Variant variant;
  variant.name = "elements";
  variant.language = "cpp";
  variant.launch_kind = "cpp_arguments";
  variant.space = [](Dtype, const DeviceTraits&) { return Space{}; };
  variant.launch = [](const Dims&, const Setting&) { return Launch{}; };
  op.variants = {variant};
  return op;
}

void expect_fault(const Op& op, const std::string& wanted) {
  const std::vector<std::string> faults = faults_of(op);
  EXPECT_EQ(std::count(faults.begin(), faults.end(), wanted), 1) << wanted << "\nis not in\n"
                                                                 << testing::PrintToString(faults);
}

TEST(Faults, OfASoundOpAreNone) {
  EXPECT_EQ(faults_of(sound_op()), std::vector<std::string>{});
}

TEST(Faults, AreMoreDimsScalarsAndArraysThanFit) {
  Op op = sound_op();
  for (size_t i = 0; i < kMostDims; ++i) op.dims.push_back({"d" + std::to_string(i)});
  for (size_t i = 0; i < kMostScalars; ++i) op.scalars.push_back({"s" + std::to_string(i)});
  for (size_t i = 0; i < kMostInputs; ++i) op.inputs.push_back({"i" + std::to_string(i), one_axis});
  for (size_t i = 0; i < kMostOutputs; ++i)
    op.outputs.push_back({"o" + std::to_string(i), one_axis});
  const auto text = [](const char* field, size_t most) {
    return std::string(field) + ": " + std::to_string(most + 1) + " where at most " +
           std::to_string(most) + " fit (spec/op/limits.h)";
  };
  expect_fault(op, text("dims", kMostDims));
  expect_fault(op, text("scalars", kMostScalars));
  expect_fault(op, text("inputs", kMostInputs));
  expect_fault(op, text("outputs", kMostOutputs));
}

TEST(Faults, AreTypesThatTheOpCannotBeJudgedIn) {
  Op op = sound_op();
  op.types.push_back(Dtype::float64);
  expect_fault(op,
               "outputs.y: float64 has no bound around float64: judge it by residuals or as exact");
  op = sound_op();
  op.types = {Dtype::int32};
  expect_fault(op, "types: int32 is not a floating-point type");
  op.types.clear();
  expect_fault(op, "types: there is none");
}

TEST(Types, ThatAnOpDoesNotTakeAreNamed) {
  try {
    check_type(sound_op(), Dtype::float64);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_STREQ(error.what(),
                 "[spec] op 'sound' is not for float64: choose float32, float16 or bfloat16");
    EXPECT_EQ(error.exit_code(), 2);
  }
}

TEST(Faults, AreJudgesWithoutWhatTheyNeed) {
  Op bounded = sound_op();
  bounded.bound = nullptr;
  expect_fault(bounded,
               "reference: an output is judged by its bound: give `reference` and `bound`");
  Op factorised = sound_op();
  factorised.outputs[0].judge = Judge::residuals;
  expect_fault(factorised,
               "residuals: an output is judged by residuals and there is no such function");
  Op exact = sound_op();
  exact.outputs[0].judge = Judge::exact;
  expect_fault(exact, "exact: an output is judged exactly: give `exact`, or `mlx` to compare with");
  Op integer = sound_op();
  integer.outputs[0].type = Dtype::uint32;
  expect_fault(integer,
               "outputs.y: an integer type has no error bound: judge it as exact or by residuals");
}

TEST(Faults, AreUpdatesOfWhatIsNoInput) {
  Op op = sound_op();
  op.outputs[0].updates = "cache";
  expect_fault(op, "outputs.y: it updates 'cache', which is not an input");
  Op input = sound_op();
  input.inputs[0].updates = "x";
  expect_fault(input, "inputs.x: only an output updates an input");
}

TEST(Faults, AreInputsThatTheDefaultFillDoesNotWrite) {
  Op op = sound_op();
  op.inputs.push_back({"ids", one_axis, Dtype::uint32});
  expect_fault(op, "fill: an input has a type of its own, which the default fill does not write");
}

TEST(Faults, AreNamesThatAreTakenTwiceOrMissing) {
  Op op = sound_op();
  op.outputs[0].name = "x";
  expect_fault(op, "outputs: the name 'x' is taken twice");
  op.name = "";
  expect_fault(op, "name: it is empty");
  op.batch_dim = "rows";
  expect_fault(op, "batch_dim: 'rows' is not a dim");
}

TEST(Faults, AreScalarsThatAreNotProved) {
  Op op = sound_op();
  op.scalars[0].default_value = 2;
  expect_fault(op, "scalars.factor: its default is not among the values that are proved");
}

TEST(Faults, AreVariantsThatCannotBeLaunched) {
  Op op = sound_op();
  op.variants[0].launch = nullptr;
  expect_fault(op, "variants.cpp.elements: it needs `space`, and `launch` or `stages`");
  op = sound_op();
  op.variants[0].launch_kind = "cpu_rows";
  op.inputs[0].strided = true;
  expect_fault(op,
               "variants.cpp.elements: stages, scratch memory, strided, updated and typed ports "
               "need a launch_kind that ends in _arguments");
}

}  // namespace
}  // namespace mlx_kd::spec
