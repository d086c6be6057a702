// The operators of the table on the device cuda.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <set>

#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "mlx_kd/devices/cuda/compile/cuda_source.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/support/new_texts.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::evaluate {
namespace {

namespace mx = mlx::core;
namespace cuda = devices::cuda;

struct Made {
  spec::Candidate candidate;
  spec::Setting knobs;
};

Made default_of(const spec::Op& op, const spec::Variant& variant, spec::Dtype t,
                const spec::Dims& dims) {
  spec::DeviceTraits traits;
  const spec::Space space = variant.space(t, traits);
  const spec::Setting knobs = spec::default_setting(space);
  return {spec::make_candidate(op, variant, t, knobs, space, dims), knobs};
}

// bfloat16, or what the op takes instead.
spec::Dtype type_of(const spec::Op& op) {
  const bool takes =
      std::find(op.types.begin(), op.types.end(), spec::Dtype::bfloat16) != op.types.end();
  return takes ? spec::Dtype::bfloat16 : op.types.front();
}

// All kernels of an op in a language.
std::string texts_of(const spec::Op& op, const std::string& language) {
  std::string texts;
  for (const spec::Variant& variant : op.variants)
    if (variant.language == language) texts += variant.source;
  return texts;
}

// What its stages launch at the op's sizes.
std::set<std::string> functions_of(const spec::Op& op, const spec::Variant& variant,
                                   const spec::Setting& knobs) {
  std::vector<spec::Dims> sizes = op.edge_sizes;
  for (const spec::Suite& suite : op.suites)
    sizes.insert(sizes.end(), suite.sizes.begin(), suite.sizes.end());
  std::set<std::string> names;
  for (const spec::Dims& size : sizes)
    for (const spec::Stage& stage : spec::stages_of(variant, spec::complete(op, size), knobs))
      names.insert(stage.func_name);
  return names;
}

// The variant's kernels at its default setting.
void expect_to_compile(const cuda::CudaCompiler& compiler, const spec::Op& op,
                       const spec::Variant& variant) {
  const spec::Dims dims = spec::complete(op, op.suites.front().sizes.front());
  const auto made = default_of(op, variant, type_of(op), dims);
  const devices::Artifact artifact = compiler.compile(made.candidate, 600);
  EXPECT_TRUE(artifact.ok) << op.name << ", " << variant.name << " in " << variant.language << ": "
                           << artifact.error;
  if (variant.language != "cuda" || !cuda::has_kernels_alone(made.candidate)) return;
  for (const std::string& name : functions_of(op, variant, made.knobs))
    EXPECT_EQ(compiler.compile_alone(made.candidate, name).error, "") << op.name;
}

TEST(CudaOperators, CompileFromMetalAndFromCudaWithoutAGpu) {
  if (std::string why; !cuda::find_nvrtc(&why)) GTEST_SKIP() << "no NVRTC: " << why;
  const tests::TempDir folder;
  const cuda::CudaCompiler compiler(90, devices::cpu::ObjectCache(folder.path(), 64 << 20));
  for (const std::string language : {"metal", "cuda"}) {
    tests::NewTexts texts;
    for (const spec::Op& op : kernels::all_ops()) {
      if (!texts.is_due(texts_of(op, language))) continue;
      for (const spec::Variant& variant : op.variants)
        if (variant.language == language) expect_to_compile(compiler, op, variant);
    }
  }
}

// Of an operator with a kernel in CUDA C++: all its sizes at the edges, against float64.
TEST(CudaOperators, AreProvedAtTheirEdgesOnTheGpu) {
  std::string why;
  if (!cuda::find_gpu(&why) || !cuda::find_nvrtc(&why)) GTEST_SKIP() << "no GPU: " << why;
  for (const spec::Op& op : kernels::all_ops()) {
    const auto in_cuda = [](const spec::Variant& one) { return one.language == "cuda"; };
    if (std::none_of(op.variants.begin(), op.variants.end(), in_cuda)) continue;
    std::vector<std::string> arguments = {
        "verify",       "--op", op.name, "--device", "cuda", "--dtype", spec::name_of(type_of(op)),
        "--candidates", "0"};
    for (const spec::Dims& size : op.edge_sizes)
      arguments.insert(arguments.end(), {"--shapes", spec::complete(op, size).text()});
    const tests::CliResult result = tests::run_cli(arguments);
    EXPECT_EQ(result.code, 0) << op.name << ": " << result.out << result.err;
  }
}

// A cache of 4 MiB each for keys and values, appended to from its Metal text.
class AppendOnGpu : public testing::Test {
 protected:
  static constexpr int kHeads = 8, kRows = 1024, kWidth = 128;

  void SetUp() override {
    std::string why;
    if (!cuda::find_gpu(&why) || !cuda::find_nvrtc(&why) || !cuda::find_native(&why))
      GTEST_SKIP() << "no GPU with the native module: " << why;
    mx::set_default_device(mx::Device::gpu);
    const spec::Op& op = kernels::find_op("kv_append");
    const spec::Variant* metal = nullptr;
    for (const spec::Variant& one : op.variants)
      if (one.language == "metal") metal = &one;
    ASSERT_NE(metal, nullptr);
    const spec::Dims dims = spec::complete(op, {{"S", kRows},
                                                {"B", 1},
                                                {"H", kHeads},
                                                {"M", 1},
                                                {"Dk", kWidth},
                                                {"Dv", kWidth},
                                                {"ragged", 0}});
    const auto made = default_of(op, *metal, spec::Dtype::float32, dims);
    const auto device = devices::open_device("cuda");
    const devices::Artifact artifact = device->compile(made.candidate, 60);
    ASSERT_TRUE(artifact.ok) << artifact.error;
    program_ = device->load(artifact, made.candidate);
    call_ = devices::make_call(op, *metal, spec::Dtype::float32, dims, made.knobs, {});
  }
  void TearDown() override { mx::set_default_device(mx::Device::cpu); }

  struct Cache {
    mx::array keys, values;
  };
  static Cache empty() {
    Cache cache{mx::zeros({1, kHeads, kRows, kWidth}), mx::zeros({1, kHeads, kRows, kWidth})};
    mx::eval(cache.keys, cache.values);
    mx::synchronize();  // what is in flight is still held
    return cache;
  }
  // Row `at` of the keys becomes at + 1, of the values -at - 1.
  Cache append(Cache cache, int at) const {
    const auto row = static_cast<float>(at + 1);
    const mx::array keys = mx::full({1, kHeads, 1, kWidth}, row),
                    values = mx::full({1, kHeads, 1, kWidth}, -row);
    std::vector<mx::array> inputs = {std::move(cache.keys), std::move(cache.values), keys, values,
                                     mx::array({at}, {1}, mx::int32)};
    const mx::Shape shape = {1, kHeads, kRows, kWidth};
    const auto made = program_->add_to_graph(std::move(inputs), {shape, shape}, call_,
                                             {mx::default_stream(mx::Device::gpu)});
    return {made[0], made[1]};
  }
  static void expect_rows(const Cache& cache, int count) {
    const mx::array index = mx::arange(static_cast<float>(kRows));
    const mx::array written = mx::where(mx::less(index, mx::array(static_cast<float>(count))),
                                        mx::add(index, mx::array(1.0f)), mx::array(0.0f));
    const mx::array expected =
        mx::broadcast_to(mx::reshape(written, {1, 1, kRows, 1}), {1, kHeads, kRows, kWidth});
    EXPECT_TRUE(mx::array_equal(cache.keys, expected).item<bool>());
    EXPECT_TRUE(mx::array_equal(cache.values, mx::negative(expected)).item<bool>());
  }

  std::shared_ptr<devices::Program> program_;
  devices::Call call_;
};

TEST_F(AppendOnGpu, KeepsTheCachesMemoryFromTokenToToken) {
  Cache cache = empty();
  const void* const keys = cache.keys.buffer().ptr();
  const void* const values = cache.values.buffer().ptr();
  for (int at = 0; at < 16; ++at) {
    cache = append(std::move(cache), at);
    // Something reads the cache in the same graph, as attention does.
    const mx::array sums = mx::add(mx::sum(cache.keys), mx::sum(cache.values));
    mx::eval(cache.keys, cache.values, sums);
    ASSERT_EQ(cache.keys.buffer().ptr(), keys) << at;
    ASSERT_EQ(cache.values.buffer().ptr(), values) << at;
  }
  expect_rows(cache, 16);
}

TEST_F(AppendOnGpu, KeepsTheCachesMemoryWithinOneGraph) {
  Cache cache = empty();
  const void* const keys = cache.keys.buffer().ptr();
  const void* const values = cache.values.buffer().ptr();
  for (int at = 0; at < 8; ++at) cache = append(std::move(cache), at);
  mx::eval(cache.keys, cache.values);
  EXPECT_EQ(cache.keys.buffer().ptr(), keys);
  EXPECT_EQ(cache.values.buffer().ptr(), values);
  expect_rows(cache, 8);
}

TEST_F(AppendOnGpu, CopiesACacheThatIsStillSeenAndThenKeepsTheCopy) {
  const Cache before = empty();
  Cache after = append(before, 0);
  mx::eval(after.keys, after.values);
  EXPECT_NE(after.keys.buffer().ptr(), before.keys.buffer().ptr());
  EXPECT_NE(after.values.buffer().ptr(), before.values.buffer().ptr());
  expect_rows(after, 1);
  expect_rows(before, 0);
  const void* const keys = after.keys.buffer().ptr();
  const void* const values = after.values.buffer().ptr();
  for (int at = 1; at < 4; ++at) {
    after = append(std::move(after), at);
    mx::eval(after.keys, after.values);
    EXPECT_EQ(after.keys.buffer().ptr(), keys) << at;
    EXPECT_EQ(after.values.buffer().ptr(), values) << at;
  }
  expect_rows(after, 4);
}

}  // namespace
}  // namespace mlx_kd::evaluate
