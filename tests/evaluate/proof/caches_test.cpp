// Operators of quantised and paged caches: wrong kernels that their proofs must reject. None of
// them reaches beyond the arrays, where the process would end.
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::caches_test {
namespace {

using spec::Dims;
using spec::Dtype;

struct Mutant {
  const char *right, *wrong;
};

// The first variant of an operator with its default setting, but for `changes`.
void expect_mutants_rejected(const std::string& op, const Dims& dims,
                             const std::vector<Dims::Item>& changes,
                             const std::vector<Mutant>& mutants) {
  ProofRig rig(kernels::find_op(op), Dtype::float32, {dims});
  const spec::Variant& variant = kernels::find_op(op).variants.front();
  spec::Setting knobs = spec::default_setting(rig.space(variant));
  for (const auto& [name, value] : changes) {
    if (!knobs.has(name)) GTEST_SKIP() << "this processor has no kernels with " << name;
    knobs.set(name, value);
  }
  const auto prove = [&](const Mutant& mutant) {
    return rig.prove_changed(rig.candidate(variant, knobs), mutant.right, mutant.wrong);
  };
  const Proof right = prove({"", ""});
  EXPECT_EQ(right.status, spec::Status::benchmarked) << right.reason;
  for (const Mutant& mutant : mutants) {
    const Proof proof = prove(mutant);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

Dims coded(int64_t m, int64_t bits) {
  return {{"S", 75},  {"B", 2},      {"Hq", 6},      {"Hk", 2},          {"M", m},       {"Dk", 64},
          {"Dv", 96}, {"causal", 1}, {"bits", bits}, {"group_size", 32}, {"has_mask", 0}};
}

TEST(AttentionQuantized, RejectsWrongProductsOfBytes) {
  expect_mutants_rejected(
      "attention_quantized", coded(3, 8), {{"DIGITS", 1}},
      {{"* 65536.0f", "* 60000.0f"},
       {"sums.biases[at] * sums.shrink[v]", "sums.biases[at]"},
       {"for (; j < count; ++j)\n    for (long g", "for (; j + 1 < count; ++j)\n    for (long g"},
       {"row * 32 + 16 + i", "row * 32 + 15 + i"},
       {"key >= seen.end ||", "key > seen.end ||"}});
  expect_mutants_rejected(
      "attention_quantized", coded(3, 4), {{"DIGITS", 1}},
      {{"if (kBits == 4) two = parted(two.even, two.odd);", ""}, {"i % 2 * 16 + i / 2", "i"}});
}

TEST(AttentionQuantized, RejectsWrongProductsOfFloats) {
  expect_mutants_rejected(
      "attention_quantized", coded(2, 8), {{"DIGITS", 0}},
      {{"* scale[i] + bias[i]", "* scale[i]"}, {"* numbers[0] + numbers[1]", "* numbers[0]"}});
}

TEST(AttentionQuantized, RejectsWrongPartsOfKeys) {
  Dims dims = coded(1, 8);
  for (const char* one : {"B", "Hk", "Hq"}) dims.set(one, 1);
  dims.set("S", 300);
  expect_mutants_rejected(
      "attention_quantized", dims, {{"KEYS", 128}},
      {{"weight * part.numbers[2 * r + 1]", "part.numbers[2 * r + 1]"},
       {"const long from = part * each", "const long from = part * (each - 4)"}});
}

TEST(QkNormRopeAppendQuantized, RejectsWrongKernels) {
  const Dims dims = {{"S", 12},          {"B", 2},      {"Hq", 4},         {"Hk", 2},
                     {"M", 3},           {"D", 64},     {"Dv", 96},        {"dims", 0},
                     {"traditional", 0}, {"ragged", 1}, {"has_freqs", 0},  {"has_wq", 1},
                     {"has_wk", 1},      {"bits", 4},   {"group_size", 32}};
  expect_mutants_rejected("qk_norm_rope_append_quantized", dims, {},
                          {{"q = q > none ? q : none;", "q = q + 1.0f;"},
                           {"row <= dims[KD_DIM_S] - dims", "row < dims[KD_DIM_S] - dims"},
                           {"first + row + at.t", "first + row"},
                           {"++h, row += apart", "++h, row += apart / 2"},
                           {"offset + at.t, cosines", "at.t, cosines"},
                           {"*to[i].bias = narrowed(code.bias)", "*to[i].bias = narrowed(0)"},
                           {"both | both >> 28", "both << 4 | both >> 32"}});
}

TEST(QkNormRopeAppendPaged, RejectsWrongKernels) {
  const Dims dims = {{"P", 4},      {"L", 5},           {"B", 2},      {"Hq", 4},
                     {"Hk", 2},     {"M", 3},           {"D", 40},     {"Dv", 24},
                     {"dims", 0},   {"traditional", 0}, {"ragged", 1}, {"has_freqs", 0},
                     {"has_wq", 0}, {"has_wk", 1}};
  expect_mutants_rejected("qk_norm_rope_append_paged", dims, {},
                          {{"(slot - page * length)", "(slot - page * length) / 2"},
                           {"page * heads * length", "page * length"},
                           {"[at.b * dims[KD_DIM_M] + at.t]", "[at.t]"},
                           {"dims[KD_DIM_Dv], length)", "dims[KD_DIM_Dv], length - 1)"},
                           {"offset + at.t, cosines", "offset, cosines"}});
}

TEST(QkNormRopeAppendPagedQuantized, RejectsWrongKernels) {
  const Dims dims = {{"P", 4},      {"L", 5},         {"B", 2},           {"Hq", 4},
                     {"Hk", 2},     {"M", 3},         {"D", 64},          {"Dv", 96},
                     {"dims", 0},   {"bits", 8},      {"traditional", 0}, {"group_size", 32},
                     {"ragged", 1}, {"has_freqs", 0}, {"has_wq", 0},      {"has_wk", 1}};
  expect_mutants_rejected("qk_norm_rope_append_paged_quantized", dims, {},
                          {{"(slot - page * length)", "(slot - page * length) / 2"},
                           {"page * heads * length", "page * length"},
                           {"[at.b * dims[KD_DIM_M] + at.t]", "[at.t]"},
                           {"length, turned);", "length - 1, turned);"},
                           {"offset + at.t, cosines", "offset, cosines"}});
}

TEST(AttentionPagedQuantized, RejectsWrongKernels) {
  const Dims dims = {{"W", 9}, {"P", 20},  {"L", 8},   {"B", 3},    {"Hq", 6},         {"Hk", 2},
                     {"M", 2}, {"Dk", 64}, {"Dv", 96}, {"bits", 8}, {"group_size", 32}};
  const std::vector<Mutant> mutants = {
      {"+ place_of(block, r).t + 1", "+ place_of(block, r).t + 2"},
      {"block.b * a->dims[KD_DIM_W] + entry", "entry"},
      {"piece = {keys_of(block, page)", "piece = {keys_of(block, 0)"},
      {"tile.first_key = j;", "tile.first_key = 0;"},
      {"begin = given > 0 ? given : 0", "begin = given > 0 ? given + 1 : 0"},
      {"if (powers == 0.0f) powers = 1.0f;", ""}};
  expect_mutants_rejected("attention_paged_quantized", dims, {}, mutants);
  const Mutant unlimited = {"return end > end_of(block, 0);", "return false;"};
  for (const int64_t digits : {0, 1})
    expect_mutants_rejected("attention_paged_quantized", dims, {{"DIGITS", digits}}, {unlimited});
}

TEST(AttentionPagedQuantized, RejectsWrongPartsOfKeys) {
  const Dims dims = {{"W", 40}, {"P", 40},  {"L", 8},   {"B", 1},    {"Hq", 1},         {"Hk", 1},
                     {"M", 1},  {"Dk", 64}, {"Dv", 64}, {"bits", 4}, {"group_size", 32}};
  expect_mutants_rejected("attention_paged_quantized", dims, {{"KEYS", 128}},
                          {{"weight * part.numbers[2 * r + 1]", "part.numbers[2 * r + 1]"},
                           {"from = begin + part * each", "from = begin + part * (each - 4)"}});
}

TEST(AttentionPaged, RejectsWrongKernels) {
  const Dims dims = {{"W", 9},  {"P", 20}, {"L", 8},   {"B", 3},  {"Hq", 6},
                     {"Hk", 2}, {"M", 2},  {"Dk", 40}, {"Dv", 24}};
  expect_mutants_rejected("attention_paged", dims, {},
                          {{"given - rows + t + 1", "given - rows + t + 2"},
                           {"block.b * a->dims[KD_DIM_W] + entry", "entry"},
                           {"+ block.key_head) * a->dims", ") * a->dims"},
                           {"low = begin > 0 ? begin : 0", "low = begin > 0 ? begin + 1 : 0"},
                           {"powers == 0.0f ? 0.0f : 1.0f / powers", "1.0f / powers"}});
}

}  // namespace
}  // namespace mlx_kd::evaluate::caches_test
