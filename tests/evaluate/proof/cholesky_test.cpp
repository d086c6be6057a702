// cholesky: wrong kernels that its residuals must reject, results that they must accept, an empty
// batch, and one matrix shared by several threads.
#include <mlx/mlx.h>

#include <cmath>
#include <cstdlib>

#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::cholesky_test {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

const spec::Op& cholesky() {
  return kernels::find_op("cholesky");
}

const spec::Variant& on_cpu() {
  return cholesky().variants.front();
}

Dims size(int64_t batch, int64_t n, int64_t upper) {
  return {{"batch", batch}, {"n", n}, {"upper", upper}};
}

spec::Setting default_knobs(const ProofRig& rig) {
  return spec::default_setting(rig.space(on_cpu()));
}

Proof prove_with(ProofRig& rig, const std::string& right, const std::string& wrong) {
  return rig.prove_changed(rig.candidate(on_cpu(), default_knobs(rig)), right, wrong);
}

TEST(Cholesky, RejectsWrongKernels) {
  const std::pair<const char*, const char*> mutants[] = {
      {"[m] = int(info);", "[m] = 0;"},        // info is forgotten
      {"return b + r + 1;", "return b + r;"},  // it counts from 0
      {"j = i + 1; j < n; ++j) l[i * n + j] = 0", "j = i + 1; j < 1; ++j) l[i * n + j] = 0"},
      {"if (info) store_nan", "if (false) store_nan"},  // garbage where there is no factor
      {"sum[i][v] -= above[b + r + i] * row;", "sum[i][v] -= above[b + r + i] * row * 2.0f;"},
      {"widen(a[j * n + i]);", "widen(a[i * n + j]);"},  // the triangle that is not to be read
      {"inverse = 1 / root;", "inverse = -1 / root;"}};
  for (const Dtype t : {Dtype::float32, Dtype::bfloat16}) {
    ProofRig rig(cholesky(), t, {size(6, 40, 0)});
    EXPECT_EQ(prove_with(rig, "", "").status, spec::Status::benchmarked);
    for (const auto& [right, wrong] : mutants) {
      const Proof proof = prove_with(rig, right, wrong);
      EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
          << wrong << ": " << name_of(proof.status) << " " << proof.reason;
    }
  }
}

// n 1 to 512 and batches up to 1,024: all n with MLX_KD_LONG.
TEST(Cholesky, IsRightAtEverySize) {
  std::vector<Dims> sizes = {size(2, 5, 1), size(63, 9, 0), size(1024, 4, 1), size(1024, 33, 0)};
  const int64_t step = std::getenv("MLX_KD_LONG") ? 1 : 73;
  for (int64_t n = 1; n < 512; n += step) sizes.push_back(size(1, n, n % 2));
  sizes.push_back(size(1, 512, 0)), sizes.push_back(size(1, 512, 1));
  ProofRig rig(cholesky(), Dtype::float32, sizes);
  const Proof proof = prove_with(rig, "", "");
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

TEST(Cholesky, SharesOneMatrixAmongThreads) {
  ProofRig rig(cholesky(), Dtype::float32, {size(1, 300, 0), size(1, 129, 1)});
  spec::Setting knobs = default_knobs(rig);
  knobs.set("THREADS", 2), knobs.set("SPLIT", 128), knobs.set("BLOCK", 32);
  EXPECT_GT(spec::stages_of(on_cpu(), spec::complete(cholesky(), size(1, 300, 0)), knobs).size(),
            10u);
  const Proof proof = rig.prove(rig.candidate(on_cpu(), knobs));
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
}

spec::Op::Arrays factored(const mx::array& a, const Dims& dims) {
  ProofRig rig(cholesky(), Dtype::float32, {size(2, 5, 0)});
  const spec::Setting knobs = default_knobs(rig);
  const spec::Candidate candidate = rig.candidate(on_cpu(), knobs);
  const auto program = rig.device().load(rig.device().compile(candidate, 60), candidate);
  const devices::Call call =
      devices::make_call(cholesky(), on_cpu(), Dtype::float32, dims, knobs, {});
  std::vector<spec::Shape> shapes;
  for (const spec::ArraySpec& output : call.outputs) shapes.push_back(output.shape);
  auto made = program->call({a}, shapes, call);
  mx::eval(made);
  return made;
}

TEST(Cholesky, TakesAnEmptyBatch) {
  const auto made = factored(mx::zeros({0, 5, 5}), size(0, 5, 0));
  EXPECT_EQ(made[0].shape(), (mx::Shape{0, 5, 5}));
  EXPECT_EQ(made[1].shape(), (mx::Shape{0}));
}

TEST(Cholesky, ReportsAMatrixWithoutFactorAloneInItsBatch) {
  const mx::array good = mx::array({4.f, 2.f, 2.f, 5.f}, {1, 2, 2});
  const mx::array bad = mx::array({1.f, 2.f, 2.f, 1.f}, {1, 2, 2});
  const auto made = factored(mx::concatenate({good, bad, good}, 0), size(3, 2, 0));
  const float* const l = made[0].data<float>();
  const int32_t* const info = made[1].data<int32_t>();
  for (const int m : {0, 2}) {
    EXPECT_EQ(info[m], 0);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(l[4 * m + i], (i == 1 ? 0 : i == 0 || i == 3 ? 2 : 1));
  }
  EXPECT_EQ(info[1], 2);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(std::isnan(l[4 + i]));
}

}  // namespace
}  // namespace mlx_kd::evaluate::cholesky_test
