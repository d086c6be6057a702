// svd, eigh and matmul_dd: wrong kernels that their residuals must reject, and every size.
#include <gtest/gtest.h>

#include <cstdlib>

#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::spectra_test {
namespace {

using spec::Dims;
using spec::Dtype;

struct Case {
  std::string op;
  Dims size;  // of which each mutant is proved
  std::vector<std::pair<std::string, std::string>> mutants;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.op;
}

// The first of each op; the others with MLX_KD_LONG.
std::vector<Case> cases() {
  return {
      {"svd",
       {{"batch", 9}, {"m", 20}, {"n", 17}, {"form", 0}},
       {{"return {c, c * signed_t, signed_t};", "return {c, 1.01f * c * signed_t, signed_t};"},
        {"s.squares[order[at - 1]] < s.squares[p]", "s.squares[order[at - 1]] > s.squares[p]"},
        {"narrow(s.squares[order[p]] * scale)", "narrow(s.squares[order[p]])"},
        {"part[j] -= s.g[p * s.line + j] * s.g[p * s.line + j];", ""},
        {"scale == 0 ? 1 : good", "scale == 0 ? 0 : good"}}},
      {"eigh",
       {{"batch", 9}, {"n", 17}, {"upper", 1}, {"values", 0}},
       {{"carried[v] = c * x - s * carried[v];", "carried[v] = c * x - 1.01f * s * carried[v];"},
        {"row[k + 1] = first - beta;", "row[k + 1] = first + beta;"},
        {"(upper ? high : low) / scale", "(upper ? low : high) / scale"},
        {"lane] * scale));", "lane]));"},
        {"scale[l] == 0 ? 1", "scale[l] == 0 ? 0"}}},
      {"matmul_dd",
       {{"batch", 2}, {"m", 5}, {"k", 40}, {"n", 19}},
       {{"sum.lo + (lost + rest)", "sum.lo + lost"},
        {"sum.lo + (lost + rest)", "lost + rest"},
        {"sum.lo = low - (sum.hi - total);", "sum.lo = low;"}}}};
}

class EveryDecomposition : public testing::TestWithParam<Case> {
 protected:
  const spec::Op& op = kernels::find_op(GetParam().op);
  const spec::Variant& on_cpu = op.variants.front();
};

INSTANTIATE_TEST_SUITE_P(Spectra, EveryDecomposition, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.op; });

TEST_P(EveryDecomposition, RejectsWrongKernels) {
  ProofRig rig(op, Dtype::float32, {GetParam().size});
  const spec::Candidate right = rig.candidate(on_cpu, spec::default_setting(rig.space(on_cpu)));
  EXPECT_EQ(rig.prove(right).status, spec::Status::benchmarked);
  const bool all = std::getenv("MLX_KD_LONG") != nullptr;
  for (size_t i = 0; i < (all ? GetParam().mutants.size() : 1); ++i) {
    const auto& [from, to] = GetParam().mutants[i];
    const Proof proof = rig.prove_changed(right, from, to);
    EXPECT_EQ(proof.status, spec::Status::wrong) << to << ": " << proof.reason;
  }
}

// All lengths of rows, some of them; more with MLX_KD_LONG.
TEST_P(EveryDecomposition, IsRightAtEverySize) {
  const bool all = std::getenv("MLX_KD_LONG") != nullptr;
  std::vector<Dims> sizes;
  for (int64_t n = 1; n <= (all ? 128 : 70); n += all ? 1 : 23) {
    Dims size = GetParam().size;
    size.set("batch", 2), size.set("n", n);
    sizes.push_back(size);
  }
  ProofRig rig(op, Dtype::float32, sizes);
  const Proof proof = rig.prove(rig.candidate(on_cpu, spec::default_setting(rig.space(on_cpu))));
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

}  // namespace
}  // namespace mlx_kd::evaluate::spectra_test
