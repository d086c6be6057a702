// Metal winners as packs carry them: the first version runs them, and so do our devices.
#include "mlx_kd/evaluate/evaluators/verify_candidates.h"

#include <gtest/gtest.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/proof/mlx_arrays.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/spec/pin.h"
#include "tests/support/first_version.h"

namespace mlx_kd::evaluate {
namespace {

namespace first = tests::first_version;

const spec::Dtype kType = spec::Dtype::float16;

// Sizes whose rows are no multiple of a pack.
spec::Dims dims_of(const spec::Op& op) {
  return spec::complete(op, op.name == "rope"
                                ? spec::Dims{{"B", 2}, {"H_Q", 3}, {"D_NOPE", 30}, {"D_ROPE", 16}}
                                : spec::Dims{{"rows", 3}, {"D", 100}});
}

std::vector<mx::array> inputs_of(const spec::Op& op, const spec::Dims& dims) {
  std::vector<mx::array> result;
  for (const spec::Port& port : op.inputs) {
    const spec::Shape shape = port.shape(dims);
    mx::array one = mx::random::normal(mx::Shape(shape.begin(), shape.end()), mx::float32, 0, 1,
                                       mx::random::key(result.size()), mx::Device::cpu);
    result.push_back(mx::astype(one, mlx_dtype(kType), mx::Device::cpu));
  }
  mx::eval(result);
  return result;
}

std::vector<spec::Shape> output_shapes(const spec::Op& op, const spec::Dims& dims) {
  std::vector<spec::Shape> result;
  for (const spec::Port& port : op.outputs) result.push_back(port.shape(dims));
  return result;
}

devices::Call body_call(const spec::Op& op, const spec::Candidate& body, const spec::Dims& dims,
                        int64_t elements) {
  const spec::Stage stage{body.func_name, kernels::body_launch(body.launch_params, dims, elements)};
  return devices::make_call(op, kType, dims, spec::default_scalars(op), {stage});
}

void expect_as_mlx(const spec::Op& op, const std::vector<mx::array>& inputs,
                   const std::vector<mx::array>& got, const std::string& what) {
  const auto wanted =
      op.mlx(inputs, spec::default_scalars(op), mx::default_stream(mx::Device::cpu));
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const mx::array flat = mx::reshape(got[i], wanted[i].shape(), mx::Device::cpu);
    EXPECT_TRUE(mx::allclose(flat, wanted[i], 2e-3, 1e-3, false, mx::Device::cpu).item<bool>())
        << op.name << " output " << i << ", " << what;
  }
}

// The default and one other setting of the Metal variant.
std::vector<spec::Candidate> candidates_of(const spec::Op& op, const spec::Dims& dims) {
  const auto device = devices::open_device("simt");
  return sample_candidates(op, {"metal"}, device->id().traits, kType, dims, 1, 4);
}

// Why kernels do not run on MLX arrays on this device; "" if they do.
std::string obstacle(const std::string& kind) {
  for (const devices::DeviceReport& report : devices::list_devices())
    if (report.kind == kind && !report.available) return report.detail;
  return kind == "cuda" && !mx::is_available(mx::Device::gpu) ? "this MLX has no CUDA" : "";
}

#define KD_NEEDS(kind) \
  if (const std::string why = obstacle(kind); !why.empty()) GTEST_SKIP() << why

class MetalWinners : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  MetalWinners() { mx::set_default_device(mx::Device::cpu); }
  void SetUp() override { KD_NEEDS(kind()); }

  const spec::Op& op() const { return kernels::find_op(std::get<0>(GetParam())); }
  std::string kind() const { return std::get<1>(GetParam()); }
};

TEST_P(MetalWinners, RunInTheFirstVersion) {
  const spec::Op& op = this->op();
  const spec::Dims dims = dims_of(op);
  const auto inputs = inputs_of(op, dims);
  for (const auto& candidate : candidates_of(op, dims)) {
    const auto body = kernels::body_form(op, candidate, dims, spec::default_scalars(op)).value();
    const base::Json metrics = {{"latency_us", 2.0},
                                {"speedup_vs_ref", 2.0},
                                {"correctness_max_abs_err", 0.0},
                                {"correctness_max_rel_err", 0.0}};
    const base::Json entry = {{"key", spec::to_json(spec::PinKey{op.name, "0.32.4", "applegpu_g16s",
                                                                 "Apple M4 Max", "float16", dims})},
                              {"candidate_id", body.id()},
                              {"source_hash", body.source_hash()},
                              {"func_name", body.func_name},
                              {"metal_source", body.source},
                              {"inputs_spec", body.inputs_spec},
                              {"outputs_spec", body.outputs_spec},
                              {"template_params", body.template_params},
                              {"launch_params", body.launch_params},
                              {"metrics", metrics}};
    const base::Json pack = {{"entries", base::Json::array({entry})}};
    const auto pin = first::find(first::load(pack), op.name, "float16", dims.json());
    ASSERT_TRUE(pin);
    std::vector<mx::Shape> shapes;
    for (const auto& shape : output_shapes(op, dims))
      shapes.emplace_back(shape.begin(), shape.end());
    const auto where = mx::Device(kind() == "cuda" ? mx::Device::gpu : mx::Device::cpu);
    expect_as_mlx(op, inputs, first::run(*pin, inputs, shapes, where), candidate.knobs.text());
  }
}

TEST_P(MetalWinners, RunAsPins) {
  const spec::Op& op = this->op();
  const spec::Dims dims = dims_of(op);
  const auto inputs = inputs_of(op, dims);
  const auto device = devices::open_device(kind());
  const auto body =
      kernels::body_form(op, candidates_of(op, dims).front(), dims, spec::default_scalars(op))
          .value();
  const auto artifact = device->compile(body, 60);
  ASSERT_TRUE(artifact.ok) << artifact.error;
  const int64_t elements = static_cast<int64_t>(inputs[0].size());
  const auto program = device->load(artifact, body);
  expect_as_mlx(op, inputs,
                program->call(inputs, output_shapes(op, dims), body_call(op, body, dims, elements)),
                "as a pin");
}

INSTANTIATE_TEST_SUITE_P(AllOperators, MetalWinners,
                         testing::Combine(testing::Values("rmsnorm", "rmsnorm_residual", "swiglu",
                                                          "rope"),
                                          testing::Values("simt", "cuda")),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param)) + "_" +
                                  std::get<1>(one.param);
                         });

// A knob that changes nothing: one program, timed once, and both are proved.
TEST(TimingOnTheExecutor, TakesOneProgramOnce) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const spec::Dims dims = dims_of(op);
  EvaluateOptions options;
  options.worker_program = MLX_KD_PROGRAM;
  const auto evaluator = make_evaluator({&op, "simt", kType, {dims}}, options);
  spec::Candidate first = candidates_of(op, dims).front(), same = first, other = first;
  same.knobs.set("CHANGES_NOTHING", 1);
  same.template_params["CHANGES_NOTHING"] = 1;
  const std::string mark = "float sum = 0.0f;";
  other.source.replace(other.source.find(mark), mark.size(), "float sum = 0.0f + 0.0f;");
  std::vector<spec::Verdict> found;
  evaluator->evaluate({first, same, other, first},
                      [&](size_t, const spec::Verdict& verdict) { found.push_back(verdict); });
  ASSERT_EQ(found.size(), 4u);
  for (const spec::Verdict& one : found)
    EXPECT_EQ(one.status, spec::Status::benchmarked) << one.reason;
  EXPECT_EQ(found[1].timed_against, first.id());
  EXPECT_EQ(found[1].metrics.kernel_us, found[0].metrics.kernel_us);
  EXPECT_EQ(found[1].objective, found[0].objective);
  EXPECT_TRUE(found[1].seconds.contains("prove"));
  EXPECT_FALSE(found[1].seconds.contains("time"));
  EXPECT_FALSE(found[1].is_incumbent);
  EXPECT_TRUE(found[2].seconds.contains("time"));
  EXPECT_TRUE(found[3].seconds.contains("time"));
  const auto claims = evaluator->claims({{first, same}});
  ASSERT_EQ(claims.size(), 2u);
  EXPECT_EQ(claims[1].candidate_id, same.id());
  EXPECT_EQ(claims[1].metrics.kernel_us, claims[0].metrics.kernel_us);
  EXPECT_EQ(claims[1].claimed, claims[0].claimed);
}

// The right result in every order, and still a race.
TEST(ProofOnTheExecutor, FindsRacesThatChangeNoResult) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const spec::Dims dims = dims_of(op);
  EvaluateOptions options;
  options.prove_only = true;
  options.worker_program = MLX_KD_PROGRAM;
  const auto evaluator = make_evaluator({&op, "simt", kType, {dims}}, options);
  spec::Candidate honest = candidates_of(op, dims).front(), racing = honest;
  const std::string mark = "float sum = 0.0f;";
  racing.source.replace(racing.source.find(mark), mark.size(),
                        "threadgroup float trace[1];\n  trace[0] = 1.0f;\n  " + mark);
  std::vector<spec::Verdict> verdicts;
  evaluator->evaluate({honest, racing},
                      [&](size_t, const spec::Verdict& verdict) { verdicts.push_back(verdict); });
  ASSERT_EQ(verdicts.size(), 2u);
  EXPECT_EQ(verdicts[0].status, spec::Status::benchmarked) << verdicts[0].reason;
  EXPECT_EQ(verdicts[1].status, spec::Status::wrong);
  EXPECT_NE(verdicts[1].reason.find("rmsnorm.metal"), std::string::npos) << verdicts[1].reason;
  EXPECT_NE(verdicts[1].reason.find("data race"), std::string::npos) << verdicts[1].reason;
}

spec::Candidate first_versions_rmsnorm(const spec::Op& op, const spec::Dims& dims) {
  spec::Candidate pin;
  pin.op_name = op.name;
  pin.language = "metal";
  pin.dtype = kType;
  pin.func_name = "kk_rmsnorm_rows";
  pin.inputs_spec = spec::ports_spec(op.inputs, kType, dims);
  pin.outputs_spec = spec::ports_spec(op.outputs, kType, dims);
  pin.launch_params = {{"launch_kind", "rmsnorm_rows_tg"}, {"threadgroup_x", 96}};
  pin.source = R"(
    constexpr uint D = 100;
    constexpr uint TG = 96;
    uint row = threadgroup_position_in_grid.x;
    uint lane = thread_position_in_threadgroup.x;
    threadgroup float buf[TG];
    float sum = 0.0f;
    for (uint j = lane; j < D; j += TG) { float v = (float)inp[row * D + j]; sum += v * v; }
    KK_SIMD_REDUCE_SUM(buf, sum, lane, TG);
    float scale = metal::rsqrt(buf[0] / (float)inp_shape[1] + 1e-6f);
    for (uint j = lane; j < D; j += TG)
      out[row * D + j] = (T)((float)weight[j] * (float)(T)((float)inp[row * D + j] * scale));
  )";
  return pin;
}

class FirstVersionsKernels : public testing::TestWithParam<const char*> {};

TEST_P(FirstVersionsKernels, RunWithTheirHelpers) {
  KD_NEEDS(GetParam());
  mx::set_default_device(mx::Device::cpu);
  const spec::Op& op = kernels::find_op("rmsnorm");
  const spec::Dims dims = dims_of(op);
  const spec::Candidate pin = first_versions_rmsnorm(op, dims);
  const auto device = devices::open_device(GetParam());
  const auto artifact = device->compile(pin, 60);
  ASSERT_TRUE(artifact.ok) << artifact.error;
  const auto inputs = inputs_of(op, dims);
  const auto program = device->load(artifact, pin);
  const devices::Call call = body_call(op, pin, dims, 300);
  for (const char* when : {"the first call", "the second"})
    expect_as_mlx(op, inputs, program->call(inputs, output_shapes(op, dims), call), when);
}

INSTANTIATE_TEST_SUITE_P(Both, FirstVersionsKernels, testing::Values("simt", "cuda"),
                         [](const auto& one) { return std::string(one.param); });

TEST(FirstVersionsKernelsOnTheExecutor, AreCheckedForRacesToo) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const spec::Dims dims = dims_of(op);
  spec::Candidate pin = first_versions_rmsnorm(op, dims);
  const auto device = devices::open_device("simt");
  ASSERT_TRUE(device->checks());
  const std::vector<std::byte> x(600), w(200);
  const devices::Call call = body_call(op, pin, dims, 300);
  EXPECT_EQ(device->check(pin, {x, w}, {600}, call), std::vector<std::string>{});
  const std::string all = "KK_SIMD_REDUCE_SUM(buf, sum, lane, TG);";
  pin.source.replace(pin.source.find(all), all.size(), "buf[lane % 32] = sum;");
  const auto faults = device->check(pin, {x, w}, {600}, call);
  ASSERT_FALSE(faults.empty());
  EXPECT_NE(faults.front().find("data race"), std::string::npos) << faults.front();
}

TEST(FirstVersionsKernelsOnTheExecutor, ThatAreNoMetalAreRefusedWithTheLine) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  spec::Candidate pin = first_versions_rmsnorm(op, dims_of(op));
  pin.source = "out[0] = inp[0];\nout[1] = nothing;\n";
  const auto artifact = devices::open_device("simt")->compile(pin, 60);
  EXPECT_FALSE(artifact.ok);
  EXPECT_NE(artifact.error.find("kd_body:2"), std::string::npos) << artifact.error;
}

}  // namespace
}  // namespace mlx_kd::evaluate
