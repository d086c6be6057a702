// attention: wrong kernels that its proof must reject.
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::attention_test {
namespace {

using spec::Dims;
using spec::Dtype;

Dims size(std::initializer_list<Dims::Item> changes) {
  Dims dims = {{"S", 70},     {"B", 2},        {"Hq", 6},        {"Hk", 2},
               {"M", 3},      {"Dk", 40},      {"Dv", 24},       {"causal", 1},
               {"window", 0}, {"has_mask", 0}, {"has_sinks", 0}, {"has_bias", 0}};
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

// `by_rows`: not in tile registers, whose text of their own tile_registers_test.cpp changes.
Proof prove_attention_with(ProofRig& rig, const std::string& right, const std::string& wrong,
                           int64_t keys, bool by_rows) {
  const spec::Variant& variant = kernels::find_op("attention").variants.front();
  spec::Setting knobs = spec::default_setting(rig.space(variant));
  knobs.set("KEYS", keys);
  if (by_rows && knobs.value_or("DOT", 0) == 2) knobs.set("DOT", 1);
  return rig.prove_changed(rig.candidate(variant, knobs), right, wrong);
}

struct Mutant {
  const char *right, *wrong;
};

void expect_rejected(const std::vector<Dims>& sizes, const std::vector<Mutant>& mutants,
                     int64_t keys = 512, Dtype t = Dtype::float32, bool by_rows = false) {
  ProofRig rig(kernels::find_op("attention"), t, sizes);
  const Proof right = prove_attention_with(rig, "", "", keys, by_rows);
  EXPECT_EQ(right.status, spec::Status::benchmarked) << right.reason;
  for (const Mutant& mutant : mutants) {
    const Proof proof = prove_attention_with(rig, mutant.right, mutant.wrong, keys, by_rows);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

void expect_rejected(const Dims& dims, const std::vector<Mutant>& mutants, int64_t keys = 512,
                     Dtype t = Dtype::float32) {
  expect_rejected(std::vector{dims}, mutants, keys, t);
}

// None of them reaches beyond the arrays, where the process would end.
TEST(Attention, RejectsWrongKernels) {
  expect_rejected(size({}), {{"position + 1 : s", "position : s"},
                             {"* kLog2E;\n  const bool whole", "* 1.442f;\n  const bool whole"},
                             {"shrink / powers", "shrink / (powers + 0.001f)"},
                             {"sum += scores[i];", "if (i > 0) sum += scores[i];"},
                             {"inputs[0] + block.b * strides[0] + at.head * strides[1]",
                              "inputs[0] + block.b * strides[0] + (at.head ^ 1) * strides[1]"},
                             {"block.v + begin * block.v_stride", "block.v + begin * width"}});
}

// More than 2^27 terms: of each head only some rows are compared, the first and the last among
// them.
TEST(Attention, OfLargePromptsIsProvedBySampledRows) {
  const spec::Op& op = kernels::find_op("attention");
  const Dims large = size({{"S", 1030}, {"M", 701}, {"B", 1}, {"Dk", 64}, {"Dv", 64}});
  ASSERT_TRUE(op.is_sampled(spec::complete(op, large)));
  EXPECT_FALSE(op.is_sampled(spec::complete(op, size({{"S", 200}, {"M", 200}}))));
  EXPECT_FALSE(op.is_sampled(spec::complete(op, size({{"S", 1 << 22}, {"M", 1}}))));
  const std::vector<uint16_t> zeros(size_t{6} * 1030 * 64);  // as many as any input has
  const std::vector<const void*> inputs(op.inputs.size(), zeros.data());
  const spec::Reference64 made =
      op.reference(inputs, Dtype::bfloat16, spec::complete(op, large), spec::default_scalars(op))
          .front();
  ASSERT_EQ(made.y.size(), size_t{6} * 701 * 64);
  size_t checked = 0;
  for (size_t i = 0; i < made.y.size(); ++i) {
    const bool is_checked = made.absolute[i] < spec::kUnchecked;
    checked += is_checked;
    const size_t row = i / 64 % 701;
    EXPECT_TRUE(is_checked || (row != 0 && row != 700)) << i;
  }
  EXPECT_GE(checked, size_t{16384});
  EXPECT_LT(checked, made.y.size());
}

// What is wrong far from the first keys and rows, which a small size does not show.
TEST(Attention, RejectsWrongKernelsOfLargePrompts) {
  const Dims large = size({{"S", 1030}, {"M", 701}, {"B", 1}, {"Dk", 64}, {"Dv", 64}});
  expect_rejected(std::vector{size({}), large},
                  {{"position + 1 : s", "position + (position < 1029) : s"},
                   {"j < to; j += TILE", "j < (to < 960 ? to : 960); j += TILE"},
                   {"strides[0] + at.head * strides[1] +",
                    "strides[0] + at.head * (dim(block, KD_DIM_M) < 99) * strides[1] +"}},
                  512, Dtype::bfloat16);
}

TEST(Attention, RejectsDroppedKeysInBfloat16) {
  expect_rejected(
      std::vector{size({})},
      {{"position + 1 : s", "position : s"}, {"sum += scores[i];", "if (i > 0) sum += scores[i];"}},
      512, Dtype::bfloat16, true);
}

TEST(Attention, RejectsWrongPartsOfKeys) {
  expect_rejected(
      size({{"S", 1100}, {"M", 1}, {"causal", 0}, {"B", 1}, {"Hk", 1}}),
      {{"weight * part.numbers[2 * r + 1]", "part.numbers[2 * r + 1]"},
       {"most = largest > most ? largest : most;", "most = largest;\n    powers += 1e-3f;"},
       {"block.begin + part * each", "block.begin + part * (each - 4)"}},
      64);
}

TEST(Attention, RejectsWrongLimits) {
  expect_rejected(size({{"window", 9}}), {{"position - window + 1", "position - window"}});
  expect_rejected(size({{"has_mask", 1}}),
                  {{"gather(block, 3, vector, j, mask)", "gather(block, 3, 0, j, mask)"},
                   {"any_key ? 0 :", "any_key ? 4 :"}});
  expect_rejected(size({{"has_bias", 1}}), {{"* kLog2E;\n#endif\n  }", ";\n#endif\n  }"}});
  expect_rejected(size({{"has_sinks", 1}}),
                  {{"inputs[4] + at.head) * kLog2E", "inputs[4] + at.head)"},
                   {"powers * shrink + power_of", "powers + power_of"}});
}

}  // namespace
}  // namespace mlx_kd::evaluate::attention_test
