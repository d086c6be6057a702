// The device metal without an Apple GPU: what it hands to metal_kernel, and what comes of it where
// metal_kernel is a stand-in.
#include "mlx_kd/devices/metal/metal_device.h"

#include <gtest/gtest.h>

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "tests/devices/staged_metal.h"
#include "tests/support/metal_stand_in.h"

namespace mlx_kd::devices::metal {
namespace {

namespace mx = mlx::core;

// One call of metal_kernel.
struct Handed {
  std::string name;
  std::vector<std::string> inputs, outputs;
  std::string body, header;
};

// A device that notes what it hands over before the stand-in runs it.
class Noted {
 public:
  Noted() {
    MetalHost host = tests::stand_in_host();
    host.metal_kernel = [this](const auto& name, const auto& inputs, const auto& outputs,
                               const auto& source, const auto& header, bool contiguous, bool atomic,
                               const auto& options) {
      calls_.push_back({name, inputs, outputs, source, header});
      return tests::stand_in_metal_kernel(name, inputs, outputs, source, header, contiguous, atomic,
                                          options);
    };
    device_ = make_metal_device(std::move(host));
  }
  const Device& device() const { return *device_; }
  const std::vector<Handed>& calls() const { return calls_; }

 private:
  std::vector<Handed> calls_;
  std::shared_ptr<const Device> device_;
};

using Names = std::vector<std::string>;

spec::Candidate scale_candidate() {
  spec::Candidate candidate;
  candidate.op_name = "scale";
  candidate.language = "metal";
  candidate.dtype = spec::Dtype::float16;
  candidate.func_name = "scale";
  candidate.knobs.set("TIMES", 3);
  candidate.launch_params = {{"launch_kind", "metal_flat"}};
  candidate.inputs_spec = {{{"name", "x"}, {"dtype", "float16"}, {"shape", {4, 16}}}};
  candidate.outputs_spec = {{{"name", "y"}, {"dtype", "float16"}, {"shape", {4, 16}}}};
  candidate.source = R"(#include <metal_stdlib>
using namespace metal;
typedef half T;
kernel void scale(const device T* x [[buffer(0)]], device T* y [[buffer(1)]],
                  constant float& eps [[buffer(2)]], constant int& D [[buffer(3)]],
                  uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  uint i = thread_position_in_grid.x;
  y[i] = T(float(x[i]) * TIMES + eps * D);
}
)";
  return candidate;
}

Call scale_call(int64_t d, double eps = 0.5) {
  Call call{{{"rows", 4}, {"D", d}}, {eps}, {stage_of("scale", {4 * d, 1, 1}, {16, 1, 1})}};
  call.scalar_names = {"eps"};
  call.inputs = call.outputs = {{{4, d}, spec::Dtype::float16}};
  return call;
}

float first_of_scale(const Program& program, int64_t d, double eps) {
  const mx::array x = mx::full({4, static_cast<int>(d)}, 2.0f, mx::float16);
  return mx::max(mx::astype(program.call({x}, {{4, d}}, scale_call(d, eps))[0], mx::float32))
      .item<float>();
}

TEST(MetalDevice, IsListedAndSaysWhatToDoWithoutIt) {
  for (const DeviceReport& report : list_devices()) {
    if (report.kind != "metal") continue;
    if (report.available) GTEST_SKIP() << "there is an Apple GPU";
    EXPECT_NE(report.detail.find("--prove-on simt --times null"), std::string::npos);
    EXPECT_THROW(open_device("metal"), base::Error);
    return;
  }
  FAIL() << "no device metal";
}

TEST(MetalDevice, HandsOverABodyForTheSizeThatTakesTheNumbersAsInputs) {
  const Noted noted;
  const auto program = loaded(noted.device(), scale_candidate());
  EXPECT_EQ(first_of_scale(*program, 16, 0.5), 2 * 3 + 0.5 * 16);
  EXPECT_EQ(first_of_scale(*program, 16, 0.25), 2 * 3 + 0.25 * 16);
  EXPECT_EQ(first_of_scale(*program, 32, 0.25), 2 * 3 + 0.25 * 32);
  ASSERT_EQ(noted.calls().size(), 2u);  // one a size: MLX compiles nothing for another number
  const Handed& call = noted.calls()[0];
  EXPECT_EQ(call.body,
            "constexpr int D = 16;\n"
            "uint i = thread_position_in_grid.x;\ny[i] = T(float(x[i]) * 3 + eps * D);\n");
  EXPECT_EQ(call.inputs, (Names{"x", "eps"}));
  EXPECT_EQ(call.outputs, Names{"y"});
  EXPECT_EQ(call.name.rfind("scale_", 0), 0u);
  EXPECT_NE(noted.calls()[1].name, call.name);
}

TEST(MetalDevice, TakesBodiesOfPacksAsTheyAre) {
  const Noted noted;
  spec::Candidate candidate = scale_candidate();
  candidate.launch_params = {{"launch_kind", "grid"}};
  candidate.source = "uint i = thread_position_in_grid.x; y[i] = kk_silu(float(x[i]));";
  const auto program = loaded(noted.device(), candidate);
  EXPECT_NEAR(first_of_scale(*program, 16, 0), 2 / (1 + std::exp(-2)), 1e-3);
  ASSERT_EQ(noted.calls().size(), 1u);
  EXPECT_EQ(noted.calls()[0].body, candidate.source);
  EXPECT_EQ(noted.calls()[0].name, "scale");
  EXPECT_NE(noted.calls()[0].header.find("kk_silu"), std::string::npos);
}

TEST(MetalDevice, RefusesAKernelThatIsNoBody) {
  const Noted noted;
  spec::Candidate candidate = scale_candidate();
  candidate.source.replace(candidate.source.find("uint3 thread_position"), 29, "uint3 at ");
  candidate.source.replace(candidate.source.find("= thread_position_in_grid.x"), 27, "= at.x");
  const auto program = loaded(noted.device(), candidate);
  try {
    first_of_scale(*program, 16, 0);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("scale.metal:6:"), std::string::npos) << error.what();
  }
}

// With the shapes of the first size at every size, as this device once had them, the second fails.
TEST(MetalDevice, LaunchesWithTheShapesOfTheCall) {
  const Noted noted;
  const auto program = loaded(noted.device(), pick_candidate());
  for (const auto& [rows, d] : kStagedSizes)
    ASSERT_EQ(launch_pick(*program, rows, d, -2),
              expected_pick(some_numbers(rows * d), rows, d, -2))
        << rows << " x " << d;
}

TEST(MetalDevice, ChainsStagesThroughScratchMemory) {
  const Noted noted;
  const auto program = loaded(noted.device(), pick_candidate());
  launch_pick(*program, 3, 64);
  ASSERT_EQ(noted.calls().size(), 2u);
  EXPECT_EQ(noted.calls()[0].inputs, (Names{"x", "scale"}));
  EXPECT_EQ(noted.calls()[0].outputs, (Names{"scratch0_memory", "scratch1_memory"}));
  EXPECT_EQ(noted.calls()[1].inputs, (Names{"scratch0_memory", "scratch1_memory", "kd_after"}));
  EXPECT_EQ(noted.calls()[1].outputs, (Names{"token", "best"}));
  // What the kernels share is the header.
  EXPECT_NE(noted.calls()[0].header.find("static float scaled("), std::string::npos);
  EXPECT_EQ(noted.calls()[0].header.find("kernel"), std::string::npos);
}

TEST(MetalDevice, PassesStrides) {
  const Noted noted;
  const auto program = loaded(noted.device(), pick_candidate());
  EXPECT_EQ(launch_pick(*program, 3, 10, 1, 6), expected_pick(some_numbers(30), 3, 10));
  EXPECT_EQ(launch_pick(*program, 2, 3, 1, 2), expected_pick(some_numbers(6), 2, 3));
}

TEST(MetalDevice, UpdatesACopy) {
  const Noted noted;
  const auto program = loaded(noted.device(), add_candidate());
  for (const auto& [rows, c] : kStagedSizes)
    EXPECT_EQ(launch_add(*program, rows, c, 1),
              expected_add(some_numbers(rows * c), some_numbers(rows), rows, c, 1));
  const auto numbers = some_numbers(24), x = some_numbers(3);
  const mx::array cache(numbers.begin(), {3, 8}, mx::float32);
  const Call call = add_call(3, 8, 2);
  const mx::array rows(x.begin(), {3}, mx::float32);
  // Two calls of one cache do not see each other.
  const mx::array once = program->call({cache, rows}, {{3, 8}}, call)[0];
  const mx::array twice =
      program->call({program->call({cache, rows}, {{3, 8}}, call)[0], rows}, {{3, 8}}, call)[0];
  mx::eval(once, twice);
  const auto expected = expected_add(numbers, x, 3, 8, 2);
  EXPECT_EQ(std::vector<float>(once.data<float>(), once.data<float>() + 24), expected);
  EXPECT_EQ(std::vector<float>(twice.data<float>(), twice.data<float>() + 24),
            expected_add(expected, x, 3, 8, 2));
  EXPECT_EQ(std::vector<float>(cache.data<float>(), cache.data<float>() + 24), numbers);
}

TEST(MetalDevice, OfAnEmptyBatchGivesNothing) {
  const Noted noted;
  const auto program = loaded(noted.device(), pick_candidate());
  EXPECT_EQ(program->call({mx::zeros({0, 5})}, {{0}, {0}}, pick_call(0, 5))[1].size(), 0u);
  EXPECT_TRUE(noted.calls().empty());
}

}  // namespace
}  // namespace mlx_kd::devices::metal
