// Operators of models proved with the instructions of AVX2 alone, beside the products of
// products_test.
#include <cstdlib>

#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/operators_of_layers.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::avx2_test {
namespace {

using spec::Dtype;

// MLX_KD_MARCH of a processor with AVX2 alone, while the object lives.
class March {
 public:
  March() { setenv("MLX_KD_MARCH", "x86-64-v3", 1); }
  ~March() { unsetenv("MLX_KD_MARCH"); }
  March(const March&) = delete;
  March& operator=(const March&) = delete;
};

void expect_proved(const spec::Op& op, const spec::Variant& variant, Dtype t) {
  ProofRig rig(op, t, op.edge_sizes);
  spec::Setting knobs = spec::default_setting(rig.space(variant));
  for (const char* wide : {"DOT", "BF16"})
    if (knobs.has(wide)) knobs.set(wide, 0);
  if (knobs.has("VEC")) knobs.set("VEC", 32);
  const Proof proof = rig.prove(rig.candidate(variant, knobs));
  EXPECT_EQ(proof.status, spec::Status::benchmarked)
      << op.name << " " << name_of(t) << " " << knobs.text() << ": " << proof.reason;
}

TEST(OperatorsOfLayers, AreProvedWithAvx2Alone) {
#ifdef __x86_64__
  if (std::getenv("MLX_KD_MARCH")) GTEST_SKIP() << "MLX_KD_MARCH is set";
  const March masked;
  const bool is_long = std::getenv("MLX_KD_LONG");
  for (const std::string& name : kOperatorsOfLayers) {
    const spec::Op& op = kernels::find_op(name);
    for (const Dtype t : op.types)
      if (is_long || (op.name == "attention" && t == Dtype::bfloat16))
        expect_proved(op, first_in_cpp(op), t);
  }
#else
  GTEST_SKIP() << "names an instruction set of x86";
#endif
}

}  // namespace
}  // namespace mlx_kd::evaluate::avx2_test
