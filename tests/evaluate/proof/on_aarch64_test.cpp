// Operators of models on AArch64: their kernels for its vectors, under qemu, are right.
#include "tests/evaluate/on_aarch64.h"

#include <cstdlib>
#include <map>

#include "tests/evaluate/operators_of_layers.h"

namespace mlx_kd::evaluate::aarch64_test {
namespace {

using spec::Dtype;

const ArmProcessor kFirst = {"armv8-a", {"asimd"}, {}},
                   kDots = {"armv8.6-a", {"asimd", "bf16"}, {"bfdot"}},
                   kBytes = {"armv8.2-a+dotprod", {"asimd", "asimddp"}, {"sdot"}},
                   kAllBytes = {
                       "armv8.2-a+dotprod+i8mm", {"asimd", "asimddp", "i8mm"}, {"sdot", "usdot"}};

bool is_long() {
  return std::getenv("MLX_KD_LONG");
}

TEST(ProductsOnAArch64, OfBfloat16ByItsDotProductsAreWithinTheirBounds) {
  if (const std::string what = missing_for_aarch64(); !what.empty()) GTEST_SKIP() << what;
  for (const char* name : {"matvec", "matvec_gate_up", "matvec_qkv", "gather_matvec"}) {
    if (!is_long() && name != std::string("matvec")) continue;
    SCOPED_TRACE(name);
    const spec::Op& op = kernels::find_op(name);
    OnAArch64(op, op.variants.front(), Dtype::bfloat16, kDots, {{"DOT", 1}}).expect_right();
  }
}

TEST(ProductsOnAArch64, WithXInInt8ByDotProductsOfBytesAreWithinTheirBounds) {
  if (const std::string what = missing_for_aarch64(); !what.empty()) GTEST_SKIP() << what;
  const spec::Op& op = kernels::find_op("qmatvec");
  const spec::Variant& variant = op.variants.at(1);
  ASSERT_EQ(variant.name, "int8");
  for (const ArmProcessor* processor : {&kAllBytes, &kBytes}) {
    if (processor == &kBytes && !is_long()) continue;
    SCOPED_TRACE(processor->march);
    OnAArch64(op, variant, Dtype::bfloat16, *processor).expect_right();
  }
}

TEST(ProductsOnAArch64, AreWithinTheirBounds) {
  if (const std::string what = missing_for_aarch64(); !what.empty()) GTEST_SKIP() << what;
  for (const spec::Op& op : kernels::all_ops()) {
    if (op.name.find("mat") == std::string::npos && op.name.find("gemm") == std::string::npos)
      continue;
    for (const Dtype t : spec::float_dtypes()) {
      const bool is_quick = (op.name == "qmatvec" && t == Dtype::bfloat16) ||
                            (op.name == "matmul" && t == Dtype::float16);
      if (!is_long() && !is_quick) continue;
      for (const spec::Variant& variant : op.variants) {
        const bool is_other = &variant != &op.variants.front() && op.name != "matmul";
        if (variant.language != "cpp" || is_other) continue;
        SCOPED_TRACE(op.name + " " + variant.name + " " + name_of(t));
        OnAArch64(op, variant, t, kFirst).expect_right();
      }
    }
  }
}

TEST(OperatorsOnAArch64, OfLayersAreRight) {
  if (const std::string what = missing_for_aarch64(); !what.empty()) GTEST_SKIP() << what;
  const std::map<std::string, Dtype> quick = {{"rmsnorm", Dtype::bfloat16},
                                              {"rope_standard", Dtype::float32},
                                              {"qk_norm_rope", Dtype::float16},
                                              {"swiglu", Dtype::bfloat16}};
  for (const std::string& name : kOperatorsOfLayers) {
    const spec::Op& op = kernels::find_op(name);
    const auto found = quick.find(name);
    for (const Dtype t : op.types) {
      if (!is_long() && (found == quick.end() || found->second != t)) continue;
      SCOPED_TRACE(name + " " + name_of(t));
      OnAArch64(op, first_in_cpp(op), t, kFirst).expect_right();
    }
  }
}

// That the judge sees what such a kernel makes.
TEST(OperatorsOnAArch64, ThatAreWrongAreFound) {
  if (const std::string what = missing_for_aarch64(); !what.empty()) GTEST_SKIP() << what;
  const spec::Op& op = kernels::find_op("rmsnorm");
  OnAArch64(op, first_in_cpp(op), Dtype::float32, kFirst)
      .expect_wrong("return sum[0] + sum[1];", "return sum[0];");
}

}  // namespace
}  // namespace mlx_kd::evaluate::aarch64_test
