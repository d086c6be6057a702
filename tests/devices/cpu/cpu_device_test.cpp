#include "mlx_kd/devices/cpu/cpu_device.h"

#include <fstream>
#include <thread>

#include "mlx/mlx.h"
#include "mlx/primitives.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/memory/buffer_pool.h"
#include "tests/devices/small_kernels.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace mx = mlx::core;

class CpuDeviceTest : public WithCache {
 protected:
  std::shared_ptr<Program> program(const spec::Candidate& candidate = add_candidate()) {
    const Artifact artifact = device->compile(candidate, 60);
    EXPECT_TRUE(artifact.ok) << artifact.error;
    return device->load(artifact, candidate);
  }
  std::shared_ptr<const Device> device = open_cpu_device();
};

// Both outputs of the kernel as an operation.
std::vector<mx::array> add(const Program& kernel, const mx::array& a, const mx::array& b,
                           const Call& call, spec::Dtype dtype = spec::Dtype::float32) {
  const spec::Shape shape(a.shape().begin(), a.shape().end());
  Call typed = call;
  for (auto* arrays : {&typed.inputs, &typed.outputs})
    for (spec::ArraySpec& array : *arrays) array.type = dtype;
  return kernel.call({a, b}, {shape, shape}, typed);
}

bool same(const mx::array& a, const mx::array& b) {
  return mx::array_equal(a, b).item<bool>();
}

mx::array ramp(int n, mx::Dtype dtype = mx::float32) {
  return mx::astype(mx::arange(0, n), dtype);
}

TEST_F(CpuDeviceTest, IsCalledWhatMlxCallsIt) {
  const auto& info = mx::device_info(mx::Device::cpu);
  EXPECT_EQ(device->id().kind, "cpu");
  EXPECT_EQ(device->id().name, std::get<std::string>(info.at("device_name")));
  EXPECT_EQ(device->id().arch, std::get<std::string>(info.at("architecture")));
  EXPECT_EQ(device->id().target["cores"], device->id().traits.cores);
  EXPECT_TRUE(std::is_sorted(device->id().traits.isa.begin(), device->id().traits.isa.end()));
  EXPECT_GE(device->id().traits.cores, 1);
}

TEST_F(CpuDeviceTest, LaunchComputesInRawMemory) {
  const std::vector<float> a = {1, 2, 3}, b = {10, 20, 30};
  std::vector<float> out(3), twice(3);
  auto call = add_call(3);
  call.scalars = {0.5};
  program(add_candidate(spec::Dtype::float32, 2))
      ->launch({a.data(), b.data()}, {out.data(), twice.data()}, call);
  EXPECT_EQ(out, (std::vector<float>{22.5, 44.5, 66.5}));
  EXPECT_EQ(twice, (std::vector<float>{45, 89, 133}));
}

TEST_F(CpuDeviceTest, LaunchOnSeveralThreadsGivesTheSame) {
  const size_t n = 10007;
  std::vector<float> a(n), b(n, 1), out(n), twice(n);
  for (size_t i = 0; i < n; ++i) a[i] = static_cast<float>(i);
  program()->launch({a.data(), b.data()}, {out.data(), twice.data()}, add_call(n, 4, 100));
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], static_cast<float>(i) + 1) << i;
}

TEST_F(CpuDeviceTest, CallGivesAllOutputsInEachType) {
  const std::vector<std::pair<spec::Dtype, mx::Dtype>> types = {
      {spec::Dtype::float32, mx::float32},
      {spec::Dtype::float16, mx::float16},
      {spec::Dtype::bfloat16, mx::bfloat16}};
  for (const auto& [dtype, mlx_dtype] : types) {
    const auto kernel = program(add_candidate(dtype));
    const mx::array a = ramp(100, mlx_dtype), b = mx::full({100}, 3.0f, mlx_dtype);
    const auto outputs = add(*kernel, a, b, add_call(100), dtype);
    ASSERT_EQ(outputs.size(), 2u);
    EXPECT_EQ(outputs[0].dtype(), mlx_dtype);
    EXPECT_TRUE(same(outputs[0], a + b)) << spec::name_of(dtype);
    EXPECT_TRUE(same(outputs[1], mx::multiply(a + b, mx::array(2, mlx_dtype))));
  }
}

TEST_F(CpuDeviceTest, OutputsStartAtACacheLine) {
  const auto kernel = program();
  for (const int n : {1, 17, 5000, 1 << 19}) {
    auto outputs = add(*kernel, ramp(n), ramp(n), add_call(n));
    mx::eval(outputs);
    for (auto& output : outputs)
      EXPECT_EQ(reinterpret_cast<uintptr_t>(output.data<float>()) % 64, 0u) << n;
  }
}

// out[row] = x[row] + 10 w: x (rows, D) and w (D) may be strided; each unit is a row. The strides
// that the kernel was told are in `told`: of x's rows, and of w's axis in front of its only one.
const char* const kRowsSource = R"(
struct kd_arguments {
  const void* inputs[16];
  void* outputs[8];
  void* scratch[4];
  long dims[16];
  double scalars[8];
  long strides[24][4];
  long stage;
};
extern "C" void mlx_kd_rows(const kd_arguments* a, long begin, long end) {
  const long d = a->dims[KD_DIM_D];
  const float *x = (const float*)a->inputs[0], *w = (const float*)a->inputs[1];
  for (long row = begin; row < end; ++row)
    for (long i = 0; i < d; ++i)
      ((float*)a->outputs[0])[row * d + i] = x[row * a->strides[0][2] + i] + 10 * w[i];
  ((int*)a->outputs[1])[0] = (int)a->strides[0][2];
  ((int*)a->outputs[1])[1] = (int)a->strides[1][2];
}
)";

spec::Candidate rows_candidate() {
  spec::Candidate candidate = add_candidate();
  candidate.op_name = "rows";
  candidate.source = kRowsSource;
  candidate.func_name = "mlx_kd_rows";
  candidate.knobs = {{"THREADS", 1}};
  candidate.template_params = candidate.knobs.json();
  candidate.inputs_spec = {{{"name", "x"}, {"dtype", "float32"}},
                           {{"name", "w"}, {"dtype", "float32"}}};
  candidate.outputs_spec = {{{"name", "out"}, {"dtype", "float32"}},
                            {{"name", "told"}, {"dtype", "int32"}}};
  candidate.launch_params = {{"launch_kind", "cpp_arguments"}, {"THREADS", 1}};
  candidate.dim_names = {"rows", "D"};
  return candidate;
}

Call rows_call(int64_t rows, int64_t d) {
  Call call;
  call.dims = {{"rows", rows}, {"D", d}};
  call.stages = {units_stage("mlx_kd_rows", rows)};
  call.inputs = {{{rows, d}}, {{d}}};
  call.outputs = {{{rows, d}}, {{2}, spec::Dtype::int32}};
  call.updates = {-1, -1};
  call.strided = {true, true};
  return call;
}

// The rows of a view are those of MLX whatever axes it has, and what has a stride for each axis of
// the port is not copied.
TEST_F(CpuDeviceTest, StridedPortsTakeViewsByTheirOwnAxes) {
  const auto kernel = program(rows_candidate());
  const mx::array w = mx::slice(ramp(8), {0}, {4}), wide = mx::reshape(ramp(48), {6, 8}),
                  cube = mx::reshape(ramp(48), {2, 3, 8});
  const struct {
    mx::array x, w;
    std::vector<int> told;
  } cases[] = {
      {mx::slice(wide, {0, 2}, {6, 6}), w, {8, 0}},        // a view of the port's axes
      {mx::slice(cube, {0, 0, 0}, {2, 3, 4}), w, {4, 0}},  // of three axes: copied
      {mx::transpose(mx::slice(cube, {0, 0, 0}, {2, 3, 4}), {1, 0, 2}), w, {4, 0}},
      {mx::slice(wide, {0, 0}, {6, 8}, {1, 2}), w, {4, 0}},  // its last axis has gaps: copied
      {mx::slice(ramp(8), {2}, {6}), w, {0, 0}},  // one row as a vector: no stride joins rows
      {mx::slice(wide, {0, 2}, {6, 6}), mx::reshape(w, {1, 4}), {8, 0}},  // w of one axis more
      {mx::slice(wide, {0, 2}, {6, 6}), mx::slice(ramp(8), {0}, {8}, {2}), {8, 0}}};
  for (const auto& one : cases) {
    const auto rows = static_cast<int64_t>(one.x.size() / 4);
    const Call call = rows_call(rows, 4);
    const auto out = kernel->call({one.x, one.w}, {{rows, 4}, {2}}, call);
    const mx::array wanted = mx::add(mx::reshape(one.x, {static_cast<int>(rows), 4}),
                                     mx::multiply(mx::reshape(one.w, {4}), mx::array(10.0f)));
    EXPECT_TRUE(same(out[0], wanted)) << one.x.ndim() << " axes";
    EXPECT_EQ(out[1].data<int>()[0], one.told[0]) << one.x.ndim() << " axes";
    EXPECT_EQ(out[1].data<int>()[1], one.told[1]) << one.x.ndim() << " axes";
  }
}

TEST_F(CpuDeviceTest, InputsOfAnyLayoutAreRead) {
  const auto kernel = program();
  const mx::array wide = mx::reshape(ramp(12), {3, 4});
  const mx::array turned = mx::transpose(wide), row = mx::broadcast_to(ramp(3), {4, 3});
  EXPECT_TRUE(same(add(*kernel, turned, row, add_call(12))[0], turned + row));
  const mx::array every_other = mx::slice(ramp(24), {0}, {24}, {2});
  EXPECT_TRUE(same(add(*kernel, every_other, ramp(12), add_call(12))[0], every_other + ramp(12)));
  const mx::array tail = mx::slice(ramp(24), {12}, {24});
  EXPECT_TRUE(same(add(*kernel, tail, tail, add_call(12))[0], tail + tail));
}

TEST_F(CpuDeviceTest, EmptyArraysLaunchNothing) {
  auto crash = add_candidate();
  crash.source =
      "extern \"C\" void mlx_kd_add(const void* const*, void* const*, const long*, const double*, "
      "long, long) { __builtin_trap(); }";
  const auto kernel = program(crash);
  auto outputs = add(*kernel, mx::zeros({0, 4}), mx::zeros({0, 4}), add_call(0));
  mx::eval(outputs);
  EXPECT_EQ(outputs[0].size(), 0u);
  EXPECT_EQ(outputs[1].shape(), (mx::Shape{0, 4}));
}

TEST_F(CpuDeviceTest, ChainsReuseMemoryWithoutMixingValues) {
  const auto kernel = program();
  const int n = 1000;
  mx::array sum = mx::zeros({n});
  for (int i = 0; i < 200; ++i) sum = add(*kernel, sum, mx::ones({n}), add_call(n))[0];
  EXPECT_TRUE(same(sum, mx::full({n}, 200.0f)));
  // Between operations of MLX, which may work in place on our outputs.
  mx::array mixed = mx::zeros({n});
  for (int i = 0; i < 50; ++i)
    mixed = mx::add(add(*kernel, mixed, mixed, add_call(n))[0], mx::array(1.0f)) * 0.5f;
  mx::array expected = mx::zeros({n});
  for (int i = 0; i < 50; ++i) expected = (expected + expected + 1.0f) * 0.5f;
  EXPECT_TRUE(same(mixed, expected));
}

TEST_F(CpuDeviceTest, LargeOutputsComeFromThePool) {
  const auto kernel = program();
  const int n = 1 << 20;
  const mx::array a = ramp(n), b = mx::ones({n});
  mx::eval(a, b);
  const size_t before = BufferPool::shared().held_bytes();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(same(add(*kernel, a, b, add_call(n))[0], a + b));
  mx::synchronize();
  EXPECT_GE(BufferPool::shared().held_bytes(), before + 2 * 4 * n);
}

TEST_F(CpuDeviceTest, ComposesWithCompile) {
  const auto kernel = program();
  const auto function = [&](const std::vector<mx::array>& in) {
    const auto sum = add(*kernel, in[0], in[1] * 2.0f, add_call(64));
    const auto again = add(*kernel, in[0], in[1] * 2.0f, add_call(64));
    return std::vector<mx::array>{mx::exp(sum[0] - sum[1]) + again[0]};
  };
  const auto compiled = mx::compile(function);
  for (int i = 1; i < 4; ++i) {
    const std::vector<mx::array> in = {ramp(64) * (0.01f * static_cast<float>(i)), mx::ones({64})};
    EXPECT_TRUE(mx::allclose(compiled(in)[0], function(in)[0]).item<bool>());
  }
}

// out = a + params[0], float32: one output.
spec::Candidate shift_candidate() {
  auto candidate = add_candidate();
  candidate.op_name = "shift";
  candidate.inputs_spec = {{{"name", "a"}}};
  candidate.outputs_spec = {{{"name", "out"}}};
  candidate.source =
      "extern \"C\" void mlx_kd_add(const void* const* in, void* const* out, const long*, const "
      "double* params, long begin, long end) { for (long i = begin; i < end; ++i) "
      "((float*)out[0])[i] = ((const float*)in[0])[i] + (float)params[0]; }";
  return candidate;
}

mx::array shift(const Program& kernel, const mx::array& a, double by) {
  auto call = add_call(static_cast<int64_t>(a.size()));
  call.scalars = {by};
  call.inputs.resize(1);
  call.outputs.resize(1);
  return kernel.call({a}, {{static_cast<int64_t>(a.size())}}, call)[0];
}

TEST_F(CpuDeviceTest, EqualCallsAreEquivalentOthersAreNot) {
  const auto one = program(shift_candidate()), two = program(shift_candidate());
  const mx::array a = ramp(8), first = shift(*one, a, 1);
  EXPECT_TRUE(first.primitive().is_equivalent(shift(*one, a, 1).primitive()));
  EXPECT_FALSE(first.primitive().is_equivalent(shift(*one, a, 2).primitive()));
  EXPECT_FALSE(first.primitive().is_equivalent(shift(*one, ramp(9), 1).primitive()));
  EXPECT_FALSE(first.primitive().is_equivalent(shift(*two, a, 1).primitive()));
  EXPECT_FALSE(first.primitive().is_equivalent((a + a).primitive()));
  EXPECT_STREQ(first.primitive().name(), "shift");
}

TEST_F(CpuDeviceTest, CompileMergesEqualCalls) {
  const auto kernel = program(shift_candidate());
  const auto compiled = mx::compile([&](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{
        mx::exp(shift(*kernel, in[0], 1) - shift(*kernel, in[0], 1) + shift(*kernel, in[0], 2))};
  });
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(mx::allclose(compiled({ramp(8)})[0], mx::exp(ramp(8) + 2.0f)).item<bool>());
}

TEST_F(CpuDeviceTest, ShapelessCompileIsRefusedNotComputedWrongly) {
  const auto kernel = program();
  const auto function = [&](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{add(*kernel, in[0], in[0], add_call(8))[0]};
  };
  const auto compiled = mx::compile(function, true);
  mx::eval(compiled({ramp(8)}));
  EXPECT_THROW(mx::eval(compiled({ramp(4)})), std::exception);
}

TEST_F(CpuDeviceTest, TheKernelOutlivesItsProgram) {
  auto kernel = program();
  const mx::array a = ramp(1000);
  auto lazy = add(*kernel, a, a, add_call(1000))[0];
  kernel.reset();
  EXPECT_TRUE(same(lazy, a + a));
}

TEST_F(CpuDeviceTest, SeveralThreadsMayCallOneProgram) {
  const auto kernel = program();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int id = 0; id < 3; ++id)
    threads.emplace_back([&, id] {
      const std::vector<float> a(5000, static_cast<float>(id)), b(5000, 1);
      std::vector<float> out(5000), twice(5000);
      for (int i = 0; i < 100; ++i) {
        kernel->launch({a.data(), b.data()}, {out.data(), twice.data()}, add_call(5000, 2, 64));
        for (const float value : out) wrong += value != static_cast<float>(id) + 1;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(CpuDeviceTest, RefusesWhatTheKernelWasNotMadeFor) {
  const auto kernel = program();
  const mx::array a = ramp(8);
  EXPECT_THROW(kernel->call({a}, {{8}, {8}}, add_call(8)), base::Error);
  EXPECT_THROW(kernel->call({a, a}, {{8}}, add_call(8)), base::Error);
  EXPECT_THROW(kernel->call({a, mx::astype(a, mx::float16)}, {{8}, {8}}, add_call(8)), base::Error);
  EXPECT_THROW(kernel->call({a, a}, {{8}, {int64_t(1) << 40}}, add_call(8)), base::Error);
}

TEST_F(CpuDeviceTest, NeverLoadsAChangedObject) {
  const Artifact artifact = device->compile(add_candidate(), 60);
  std::ofstream(artifact.path, std::ios::binary | std::ios::app) << "x";
  EXPECT_THROW(device->load(artifact, add_candidate()), base::Error);
}

TEST_F(CpuDeviceTest, NeverLoadsFromOutsideItsCache) {
  Artifact artifact = device->compile(add_candidate(), 60);
  const auto elsewhere = folder() / "kernel.so";
  std::filesystem::copy_file(artifact.path, elsewhere);
  artifact.path = elsewhere;
  EXPECT_THROW(device->load(artifact, add_candidate()), base::Error);
}

TEST_F(CpuDeviceTest, AMissingFunctionIsAnErrorThatNamesIt) {
  auto candidate = add_candidate();
  candidate.source = "extern \"C\" void another() {}";
  const Artifact artifact = device->compile(candidate, 60);
  ASSERT_TRUE(artifact.ok);
  try {
    device->load(artifact, candidate);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("mlx_kd_add"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mlx_kd::devices::cpu
