// Candidates on the device cuda, from their text to MLX's arrays.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

// y = a x + b, four elements a thread where they are aligned; b is bound before x, a after y.
constexpr const char* kText = R"(#include <metal_stdlib>
using namespace metal;
[[kernel]] void line(constant float& a [[buffer(3)]], device float* y [[buffer(2)]],
                     const device float* x [[buffer(1)]], const device float* b [[buffer(0)]],
                     constant int64_t& N [[buffer(4)]],
                     uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const ulong i = ulong(thread_position_in_grid.x) * 4;
  if (i + 4 <= ulong(N)) {
    *reinterpret_cast<device float4*>(y + i) =
        a * *reinterpret_cast<const device float4*>(x + i) +
        *reinterpret_cast<const device float4*>(b + i);
  } else {
    for (ulong j = i; j < ulong(N); ++j) y[j] = a * x[j] + b[j];
  }
}
)";

spec::Candidate line_candidate(const std::string& text = kText) {
  spec::Candidate made;
  made.op_name = "line";
  made.variant = "line";
  made.language = "metal";
  made.dtype = spec::Dtype::float32;
  made.source = text;
  made.func_name = "line";
  made.inputs_spec = {{{"name", "x"}}, {{"name", "b"}}};
  made.outputs_spec = {{{"name", "y"}}};
  made.launch_params = {{"launch_kind", "metal_line"}};
  return made;
}

Call line_call(int64_t n) {
  Call call;
  call.dims = {{"N", n}};
  call.scalars = {2.0};
  call.scalar_names = {"a"};
  spec::Stage stage{"line"};
  stage.launch.grid = {(n + 255) / 256 * 64, 1, 1};
  stage.launch.group = {64, 1, 1};
  call.stages = {stage};
  call.inputs = {{{n}}, {{n}}};
  call.outputs = {{{n}}};
  return call;
}

class Cache {
 public:
  CudaCompiler compiler() const { return {90, cpu::ObjectCache(folder_.path(), 64 << 20)}; }

 private:
  tests::TempDir folder_;
};

TEST(CudaCompiler, CompilesForAnArchitectureThatIsNotHereAndFindsItAgain) {
  KD_NEEDS_NVRTC();
  const Cache cache;
  const Artifact first = cache.compiler().compile(line_candidate(), 60);
  ASSERT_TRUE(first.ok) << first.error;
  EXPECT_FALSE(first.cached);
  const Artifact second = cache.compiler().compile(line_candidate(), 60);
  EXPECT_TRUE(second.ok && second.cached);
  EXPECT_EQ(second.path, first.path);
}

TEST(CudaCompiler, RefusesWithThePlaceInTheMetalText) {
  KD_NEEDS_NVRTC();
  const Cache cache;
  std::string text = kText;
  text.replace(text.find("a * x[j]"), 8, "a * q[j]");
  const Artifact artifact = cache.compiler().compile(line_candidate(text), 60);
  EXPECT_FALSE(artifact.ok);
  EXPECT_NE(artifact.error.find("line.metal:13: "), std::string::npos) << artifact.error;
}

TEST(CudaCompiler, PastItsLimitIsATimeOut) {
  KD_NEEDS_NVRTC();
  static const Cache cache;  // NVRTC goes on, and needs its folder
  const Artifact artifact = cache.compiler().compile(line_candidate(), 0);
  EXPECT_TRUE(!artifact.ok && artifact.timed_out);
  const Artifact waited = cache.compiler().compile(line_candidate(), 60);
  EXPECT_TRUE(waited.ok) << waited.error;
}

std::shared_ptr<devices::Program> load_line() {
  const auto device = open_device("cuda");
  const Artifact artifact = device->compile(line_candidate(), 60);
  EXPECT_TRUE(artifact.ok) << artifact.error;
  return device->load(artifact, line_candidate());
}

TEST(CudaDeviceProgram, RunsOnItsOwnMemory) {
  KD_NEEDS_GPU();
  const auto device = open_device("cuda");
  const Accelerator& gpu = *device->accelerator();
  constexpr int64_t kCount = 1003;
  std::vector<float> x(kCount), y(kCount, -1), b(kCount, 0.5f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const int64_t bytes = kCount * 4;
  void* memory[3];
  for (void*& one : memory) one = gpu.allocate(bytes);
  gpu.write(memory[0], x.data(), bytes);
  gpu.write(memory[1], b.data(), bytes);
  load_line()->launch({memory[0], memory[1]}, {memory[2]}, line_call(kCount));
  gpu.read(y.data(), memory[2], bytes);
  for (void* one : memory) gpu.release(one);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], 2 * x[i] + 0.5f) << i;
}

TEST(CudaDeviceProgram, RefusesGroupsOfMoreThanOneDimension) {
  KD_NEEDS_GPU();
  Call call = line_call(64);
  call.stages[0].launch.group = {8, 8, 1};
  EXPECT_THROW(load_line()->launch({nullptr, nullptr}, {nullptr}, call), base::Error);
}

TEST(CudaDeviceProgram, RefusesAPartialThreadgroup) {
  KD_NEEDS_GPU();
  const auto program = load_line();
  Call call = line_call(1000);
  call.stages[0].launch.grid[0] = 250;
  try {
    program->launch({nullptr, nullptr}, {nullptr}, call);
    ADD_FAILURE() << "250 threads in groups of 64 were launched";
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("250 threads in threadgroups of 64"),
              std::string::npos)
        << error.what();
  }
}

TEST(CudaDeviceProgram, TakesArraysOfAnyLayoutAndOffset) {
  KD_NEEDS_GPU();
  if (!mx::is_available(mx::Device::gpu)) GTEST_SKIP() << "this MLX has no CUDA";
  mx::set_default_device(mx::Device::gpu);
  const mx::array all = mx::random::normal({64, 65});
  mx::eval(all);
  const mx::array flat = mx::reshape(all, {64 * 65});
  mx::array offset = mx::slice(flat, {3}, {3 + 1000});
  const mx::array inputs[] = {mx::slice(flat, {0}, {1000}), offset,
                              mx::reshape(mx::transpose(mx::slice(all, {0, 0}, {40, 25})), {1000}),
                              mx::slice(flat, {1}, {2001}, {2})};
  mx::eval(offset);
  const auto program = load_line();
  const mx::array b = mx::full({1000}, 0.5f);
  for (const mx::array& x : inputs) {
    const mx::array y = program->call({x, b}, {{1000}}, line_call(1000))[0];
    const mx::array right = mx::add(mx::multiply(x, mx::array(2.0f)), b);
    EXPECT_TRUE(mx::allclose(y, right, 1e-6, 1e-6).item<bool>());
  }
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
