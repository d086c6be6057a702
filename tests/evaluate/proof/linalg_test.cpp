// Operators on batches of matrices: wrong kernels that their residuals must reject, matrices that
// threads share, and results that may be expected to the bit.
#include <mlx/mlx.h>

#include <cmath>
#include <cstdlib>

#include "mlx_kd/kernels/linalg/matrices.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::linalg_test {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

struct Case {
  std::string op;
  Dims small;   // of which each mutant is proved
  Dims shared;  // one matrix, which several threads take
  std::vector<std::pair<std::string, std::string>> mutants;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.op;
}

Dims of(const std::string& op, int64_t batch, int64_t n) {
  const spec::Op& known = kernels::find_op(op);
  Dims dims;
  for (const spec::Dim& dim : known.dims)
    if (dim.kind == spec::Dim::Kind::dim)
      dims.set(dim.name, dim.name == "batch" ? batch : dim.name == "k" ? 3 : n);
  return dims;
}

// The first of each op; the others with MLX_KD_LONG.
std::vector<Case> cases() {
  const std::pair<std::string, std::string> product = {"sum[i][v] -= a[i * row] * x[v];",
                                                       "sum[i][v] -= a[i * row] * x[v] * 1.001f;"};
  const std::pair<std::string, std::string> pivot = {"return k + 1;", "return k;"};
  const std::pair<std::string, std::string> row = {"return i + 1;", "return i;"};
  const auto with = [&](const std::string& op,
                        std::vector<std::pair<std::string, std::string>> all) {
    return Case{op, of(op, 12, 40), of(op, 1, 300), std::move(all)};
  };
  return {
      with("qr", {{"return j + 1;", "return j;"},
                  {"tau[c] = (beta - alpha) / beta;", "tau[c] = (beta - alpha) / beta * 1.001f;"},
                  {"for (; j < first; ++j) to[j] = 0;", "for (; j < first; ++j) to[j] = 1;"},
                  product}),
      with("lu", {{"w.pivots[k] = row;", "w.pivots[k] = (int)k;"},
                  {"if (row != k) swap_rows(w, k, row);", "if (row < 0) swap_rows(w, k, row);"},
                  {"note(most, part, reduced, (int)i);", ""},
                  {"fill(lu + i * w.n, w.n, __builtin_nanf(\"\"));", "fill(lu + i * w.n, w.n, 0);"},
                  product}),
      with("solve", {pivot,
                     {"order ? order[i] : i", "i"},
                     {"backward<false>(t, x, line, begin, end);", ""},
                     {"(int)factor(w);", "(int)factor(w), *info_of(a, each) = 0;"},
                     product}),
      with("inv", {{"row[order[j]] = from[j];", "row[j] = from[j];"}, product, pivot}),
      with("slogdet", {{"is_zero ? -__builtin_inff()", "is_zero ? 0"},
                       {"(w.pivots[k] != k)", "true"},
                       {"0x1.62e42fefa39efp-1", "0.6931"}}),
      with("solve_triangular", {product, row, {"unit) to[i] = s.a", "unit) to[i] = 1 + s.a"}}),
      with("tri_inv", {row, product, {"to[i] = inverse[i] = 1;", "to[i] = inverse[i] = 2;"}}),
      with("cholesky_inv", {{"upper == (which == 0)", "upper"}, product, row}),
      with("cholesky_solve", {{"backward<false>(upper, x, line, begin, end);", ""}, product, row})};
}

class EveryFactorisation : public testing::TestWithParam<Case> {
 protected:
  const spec::Op& op = kernels::find_op(GetParam().op);
  const spec::Variant& on_cpu = op.variants.front();

  spec::Setting knobs(const ProofRig& rig) const {
    spec::Setting setting = spec::default_setting(rig.space(on_cpu));
    if (setting.has("LANES")) setting.set("LANES", 0);
    return setting;
  }
};

INSTANTIATE_TEST_SUITE_P(Linalg, EveryFactorisation, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.op; });

TEST_P(EveryFactorisation, RejectsWrongKernels) {
  ProofRig rig(op, Dtype::float32, {GetParam().small});
  const spec::Candidate right = rig.candidate(on_cpu, knobs(rig));
  EXPECT_EQ(rig.prove(right).status, spec::Status::benchmarked);
  const bool all = std::getenv("MLX_KD_LONG") != nullptr;
  for (size_t i = 0; i < (all ? GetParam().mutants.size() : 1); ++i) {
    const auto& [from, to] = GetParam().mutants[i];
    const Proof proof = rig.prove_changed(right, from, to);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << to << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

TEST_P(EveryFactorisation, SharesOneMatrixAmongThreads) {
  ProofRig rig(op, Dtype::float32, {GetParam().shared});
  spec::Setting setting = knobs(rig);
  setting.set("THREADS", 2), setting.set("SPLIT", 128);
  if (setting.has("BLOCK")) setting.set("BLOCK", 32);
  EXPECT_GE(spec::stages_of(on_cpu, spec::complete(op, GetParam().shared), setting).size(), 3u);
  const Proof proof = rig.prove(rig.candidate(on_cpu, setting));
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

// n 1 to 300, some of them; all to 128 with MLX_KD_LONG.
TEST_P(EveryFactorisation, IsRightAtEverySize) {
  std::vector<Dims> sizes;
  const bool all = std::getenv("MLX_KD_LONG") != nullptr;
  for (int64_t n = 1; n <= 128; n += all ? 1 : 31) sizes.push_back(of(GetParam().op, 2, n));
  if (all) sizes.push_back(of(GetParam().op, 1, 1024));
  ProofRig rig(op, Dtype::float32, sizes);
  const Proof proof = rig.prove(rig.candidate(on_cpu, knobs(rig)));
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

spec::Op::Arrays results_of(const std::string& name, const spec::Op::Arrays& inputs,
                            const Dims& given) {
  const spec::Op& op = kernels::find_op(name);
  const spec::Variant& variant = op.variants.front();
  ProofRig rig(op, Dtype::float32, {of(name, 2, 5)});
  const spec::Setting knobs = spec::default_setting(rig.space(variant));
  const spec::Candidate candidate = rig.candidate(variant, knobs);
  const auto program = rig.device().load(rig.device().compile(candidate, 60), candidate);
  const devices::Call call = devices::make_call(op, variant, Dtype::float32, given, knobs, {});
  std::vector<spec::Shape> shapes;
  for (const spec::ArraySpec& output : call.outputs) shapes.push_back(output.shape);
  auto made = program->call(inputs, shapes, call);
  mx::eval(made);
  return made;
}

TEST(Factorisations, TakeAnEmptyBatch) {
  const auto made = results_of("inv", {mx::zeros({0, 5, 5})}, {{"batch", 0}, {"n", 5}});
  EXPECT_EQ(made[0].shape(), (mx::Shape{0, 5, 5}));
  EXPECT_EQ(made[1].shape(), (mx::Shape{0}));
}

// [2 0; 0 4], one of rank 1, one with NaN, [1 2; 0 1].
mx::array four_matrices() {
  const float nan = std::nanf("");
  return mx::array({2.f, 0.f, 0.f, 4.f, 1.f, 2.f, 2.f, 4.f, 1.f, nan, 0.f, 1.f, 1.f, 2.f, 0.f, 1.f},
                   {4, 2, 2});
}

TEST(Inv, ReportsSingularMatricesAloneInTheirBatch) {
  const auto made = results_of("inv", {four_matrices()}, {{"batch", 4}, {"n", 2}});
  const float* const x = made[0].data<float>();
  const int32_t* const info = made[1].data<int32_t>();
  const float expected[] = {0.5f, 0, 0, 0.25f, 1, -2, 0, 1};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(x[i], expected[i]);
    EXPECT_TRUE(std::isnan(x[4 + i]) && std::isnan(x[8 + i]));
    EXPECT_EQ(x[12 + i], expected[4 + i]);
  }
  EXPECT_EQ(info[0], 0);
  EXPECT_EQ(info[1], 2);
  EXPECT_GT(info[2], 0);
  EXPECT_EQ(info[3], 0);
}

TEST(Slogdet, OfASingularMatrixIsMinusInfinity) {
  const auto made = results_of("slogdet", {four_matrices()}, {{"batch", 4}, {"n", 2}});
  const float *const sign = made[0].data<float>(), *const log = made[1].data<float>();
  EXPECT_EQ(sign[0], 1);
  EXPECT_FLOAT_EQ(log[0], std::log(8.0f));
  EXPECT_EQ(sign[1], 0);
  EXPECT_EQ(log[1], -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(sign[2]) && std::isnan(log[2]));
  EXPECT_EQ(sign[3], 1);
  EXPECT_EQ(log[3], 0);
}

TEST(Qr, KeepsATriangleAsItIs) {
  const mx::array a = mx::array({3.f, 1.f, 0.f, -2.f}, {1, 2, 2});
  const auto made = results_of("qr", {a}, {{"batch", 1}, {"m", 2}, {"n", 2}, {"mode", 0}});
  const float identity[] = {1, 0, 0, 1}, triangle[] = {3, 1, 0, -2};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(made[0].data<float>()[i], identity[i]);
    EXPECT_EQ(made[1].data<float>()[i], triangle[i]);
  }
}

TEST(Qr, TakesATallMatrixInBlocks) {
  const spec::Op& op = kernels::find_op("qr");
  const Dims tall = {{"batch", 1}, {"m", 4500}, {"n", 6}, {"mode", 0}};
  ProofRig rig(op, Dtype::float32, {tall});
  spec::Setting knobs = spec::default_setting(rig.space(op.variants.front()));
  knobs.set("THREADS", 2), knobs.set("HEIGHT", 1024);
  const auto stages = spec::stages_of(op.variants.front(), spec::complete(op, tall), knobs);
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0].func_name, "mlx_kd_qr_rows");
  const Proof proof = rig.prove(rig.candidate(op.variants.front(), knobs));
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

TEST(Qr, RejectsWrongKernelsOfSmallMatrices) {
  const spec::Op& op = kernels::find_op("qr");
  ProofRig rig(op, Dtype::float32, {{{"batch", 40}, {"m", 9}, {"n", 7}, {"mode", 0}}});
  const spec::Setting knobs = spec::default_setting(rig.space(op.variants.front()));
  const std::pair<const char*, const char*> mutants[] = {
      {"x[i * n + c] *= inverse;", "x[i * n + c] *= inverse * 1.001f;"},
      {"bad[lane] ? (int)first_spoilt(from, m, n) : 0", "0"},
      {"r[i * n + j] = chosen(bad, quiet,", "r[i * n + j] = chosen(Ints{}, quiet,"}};
  for (const auto& [from, to] : mutants) {
    const spec::Candidate right = rig.candidate(op.variants.front(), knobs);
    EXPECT_EQ(rig.prove_changed(right, from, to).status, spec::Status::wrong) << to;
  }
}

}  // namespace
}  // namespace mlx_kd::evaluate::linalg_test
