// rope_standard and qk_norm_rope: wrong kernels that their proofs must reject.
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::rotary_test {
namespace {

using spec::Dims;
using spec::Dtype;

Proof prove_rotary_with(ProofRig& rig, const std::string& op, const std::string& right,
                        const std::string& wrong) {
  const spec::Variant& variant = kernels::find_op(op).variants.front();
  spec::Candidate candidate = rig.candidate(variant, spec::default_setting(rig.space(variant)));
  const size_t at = candidate.source.find(right);
  EXPECT_NE(at, std::string::npos) << right;
  if (at != std::string::npos) candidate.source.replace(at, right.size(), wrong);
  return rig.prove(candidate);
}

struct Mutant {
  const char *right, *wrong;
};

void expect_rejected(const std::string& op, const Dims& dims, const std::vector<Mutant>& mutants) {
  ProofRig rig(kernels::find_op(op), Dtype::float32, {dims});
  const Proof right = prove_rotary_with(rig, op, "", "");
  EXPECT_EQ(right.status, spec::Status::benchmarked) << right.reason;
  for (const Mutant& mutant : mutants) {
    const Proof proof = prove_rotary_with(rig, op, mutant.right, mutant.wrong);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

TEST(RopeStandard, RejectsWrongKernels) {
  const Dims halves = {{"M", 5},    {"B", 3},           {"H", 2},      {"D", 40},
                       {"dims", 0}, {"traditional", 0}, {"ragged", 1}, {"has_freqs", 0}};
  expect_rejected(
      "rope_standard", halves,
      {{"term(a.part[p], c) - term(b.part[p], s)", "term(a.part[p], c) + term(b.part[p], s)"},
       {"ragged] ? at.b : 0]", "ragged] ? 0 : at.b]"},
       {"fill_tables(by, offset + at.t,", "fill_tables(by, offset,"},
       {"* by.scale * rate", "* rate"},
       {"n * 1.5707963267948966", "n * 1.57079"},
       {"strides[1],", "count * width,"}});
  Dims pairs = halves;
  pairs.set("traditional", 1);
  pairs.set("dims", 30);
  expect_rejected(
      "rope_standard", pairs,
      {{"sines[2 * i] = -turn.s", "sines[2 * i] = turn.s"},
       {"for (long i = by.dims; i < by.width", "for (long i = by.dims + 1; i < by.width"}});
}

TEST(QkNormRope, RejectsWrongKernels) {
  const Dims normed = {{"M", 3},         {"B", 2},      {"Hq", 4},          {"Hk", 2},
                       {"D", 40},        {"dims", 0},   {"traditional", 0}, {"ragged", 0},
                       {"has_freqs", 1}, {"has_wq", 1}, {"has_wk", 1}};
  expect_rejected("qk_norm_rope", normed,
                  {{"from.scale * w.part[p]", "w.part[p]"},
                   {"(mean + heads.eps)", "(mean)"},
                   {"a->inputs[3 + port]", "a->inputs[3]"},
                   {"double(by.frequencies[i])", "double(by.frequencies[0])"},
                   {"strides[1],", "rows * width,"}});
}

TEST(QkNormRopeAppend, RejectsWrongKernels) {
  const Dims normed = {{"S", 7},           {"B", 2},      {"Hq", 4},        {"Hk", 2},
                       {"M", 3},           {"D", 40},     {"Dv", 24},       {"dims", 0},
                       {"traditional", 0}, {"ragged", 1}, {"has_freqs", 0}, {"has_wq", 1},
                       {"has_wk", 1}};
  expect_rejected(
      "qk_norm_rope_append", normed,
      {{"offset < 0 ||", "offset <= 0 ||"},
       {"rows + offset + at.t", "rows + at.t"},
       {"KD_DIM_has_wk] ? (const T*)a->inputs[kWk]", "KD_DIM_has_wk] ? (const T*)a->inputs[kWq]"},
       {"from + head * a->strides[kV][1]", "from"},
       {"long)(width * long", "long)((width - 1) * long"}});
}

}  // namespace
}  // namespace mlx_kd::evaluate::rotary_test
