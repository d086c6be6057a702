// Candidates in Metal of several stages, with scratch memory, strides and updates, on the device
// cuda.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/emulated_cuda.h"
#include "tests/devices/cuda/gpu_arrays.h"
#include "tests/devices/cuda/refusals.h"
#include "tests/devices/staged_metal.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

// Groups of one thread are whole at every size.
Call whole(Call call) {
  for (spec::Stage& stage : call.stages) stage.launch.group = {1, 1, 1};
  return call;
}

spec::Candidate updating_candidate() {
  spec::Candidate made = add_candidate();
  made.updates = {0};
  return made;
}

TEST(StagedText, TakesStridesByValueAndKnowsWhatOverlaps) {
  const auto code_of = [](const spec::Candidate& candidate) {
    return candidate_text(candidate, kSm).text.made.text;
  };
  EXPECT_TRUE(has(code_of(pick_candidate()), "const __grid_constant__ kd_List x_strides_list"));
  EXPECT_TRUE(has(code_of(pick_candidate()), "const long* x_strides = x_strides_list.at;"));
  // The first kernel has no buffer of the array that it updates but one, the second has two.
  const std::string text = code_of(updating_candidate());
  EXPECT_TRUE(has(text, "add_column(const float* __restrict__ x, float* __restrict__ added"))
      << text;
  EXPECT_TRUE(has(text, "sum_up(const float* cache, float* added")) << text;
  EXPECT_FALSE(has(text, "int grid_x")) << text;  // it is as many threads as are launched
}

TEST(StagedText, KeysAndSymbolsDifferWithTheText) {
  KD_NEEDS_NVRTC();
  const CandidateText one = candidate_text(pick_candidate(), kSm);
  std::string changed = kPickText;
  changed.replace(changed.find("by * x"), 6, "x * by");
  const CandidateText other = candidate_text(pick_candidate(changed), kSm);
  EXPECT_NE(one.cuda.key, other.cuda.key);
  EXPECT_EQ(one.cuda.key, candidate_text(pick_candidate(), kSm).cuda.key);
  for (const msl::Kernel& kernel : one.text.made.kernels)
    EXPECT_NE(one.cuda.symbol(kernel), other.cuda.symbol(kernel)) << kernel.name;
}

TEST(StagedText, CompilesAndReadsTheGivenStridesWithoutAGpu) {
  KD_NEEDS_NVRTC();
  const tests::TempDir folder;
  const CudaCompiler compiler(kSm, cpu::ObjectCache(folder.path(), 64 << 20));
  for (const spec::Candidate& candidate : {pick_candidate(), updating_candidate()}) {
    const Artifact made = compiler.compile(candidate, 60);
    EXPECT_TRUE(made.ok) << made.error;
  }
}

// What a GPU would run, on the executor: rows lie 7 apart.
TEST(StagedText, ReadsRowsThatLieApart) {
  msl::TranslateOptions options;
  options.lists_by_value = {"x_strides"};
  const MetalText text = metal_text(pick_candidate());
  const TranslatedText read = translate_text(text, msl::Target::cpp);
  const simt::EmulatedCuda code(read.unit, options);
  ASSERT_TRUE(code.compiled());
  MslRequest request;
  request.kernel = "pick_blocks";
  request.grid = {2, 3, 1};
  request.threadgroup = {1, 1, 1};
  request.arrays = {
      parse_array("x=arange:f32:[21]", 1), parse_array("x_strides=7,1,0,0:i64:[4]", 1),
      parse_output("scratch0=f32:[6]"),    parse_output("scratch1=u32:[6]"),
      parse_array("D=5:i32", 1),           parse_array("scale=1:f32", 1)};
  EXPECT_EQ(code.run(request).fault, "");
  const HostArray& most = request.arrays[2];
  for (size_t row = 0; row < 3; ++row) {
    EXPECT_EQ(most.at(2 * row), 7.0 * static_cast<double>(row) + 3);
    EXPECT_EQ(most.at(2 * row + 1), 7.0 * static_cast<double>(row) + 4);
  }
}

TEST(StagedText, RefusesAnInputThatIsWrittenAndNotUpdated) {
  KD_NEEDS_GPU();
  std::string text = kPickText;
  text.replace(text.find("const device T* x,"), 18, "device T* x,");
  const std::string message =
      refusal_of([&] { loaded(*open_device("cuda"), pick_candidate(text)); });
  EXPECT_TRUE(has(message, "input 'x' is bound as one that is written")) << message;
}

TEST(StagedTextOnItsOwnMemory, HandsScratchMemoryOnAndReadsStrides) {
  KD_NEEDS_GPU();
  const auto program = loaded(*open_device("cuda"), pick_candidate());
  for (const auto& [rows, d] : kStagedSizes)
    for (const int64_t gap : {0, 3}) {
      Call call = whole(pick_call(rows, d, -2));
      std::vector<float> laid(static_cast<size_t>(rows * (d + gap)), NAN);
      const std::vector<float> x = some_numbers(rows * d);
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(x.begin() + r * d, d, laid.begin() + r * (d + gap));
      if (gap > 0) call.inputs[0].strides = {d + gap, 1};
      const auto count = static_cast<size_t>(rows);
      GpuArrays arrays;
      void* in = arrays.add(laid);
      void* token = arrays.add(std::vector<uint32_t>(count, 77));
      void* best = arrays.add(std::vector<float>(count, 77));
      program->launch({in}, {token, best}, call);
      const Picked made{arrays.read<uint32_t>(1, count), arrays.read<float>(2, count)};
      EXPECT_EQ(made, expected_pick(x, rows, d, -2)) << rows << " x " << d << ", gap " << gap;
    }
}

TEST(StagedTextOnItsOwnMemory, UpdatesInPlace) {
  KD_NEEDS_GPU();
  const auto program = loaded(*open_device("cuda"), updating_candidate());
  for (const auto& [rows, c] : kStagedSizes) {
    GpuArrays arrays;
    void* cache = arrays.add(some_numbers(rows * c));
    void* x = arrays.add(some_numbers(rows));
    program->launch({cache, x}, {cache}, whole(add_call(rows, c, 1)));
    EXPECT_EQ(arrays.read<float>(0, static_cast<size_t>(rows * c)),
              expected_add(some_numbers(rows * c), some_numbers(rows), rows, c, 1));
  }
}

class StagedNative : public testing::Test {
 protected:
  void SetUp() override {
    KD_NEEDS_NATIVE();
    mx::set_default_device(mx::Device::gpu);
  }
  void TearDown() override { mx::set_default_device(mx::Device::cpu); }

  static mx::array array_of(const std::vector<float>& values, const mx::Shape& shape) {
    return mx::array(values.begin(), shape, mx::float32);
  }
  template <class T>
  static std::vector<T> values_of(mx::array array) {
    mx::eval(array);
    return {array.data<T>(), array.data<T>() + array.size()};
  }
};

TEST_F(StagedNative, ReadsViewsAsTheyLieAmongOperationsOfMlx) {
  const auto program = loaded(*open_device("cuda"), pick_candidate());
  const mx::array all = array_of(some_numbers(4 * 40), {4, 40});
  for (const int from : {0, 4, 8}) {
    const mx::array view = mx::slice(mx::add(all, all), {1, from}, {4, from + 20});
    const auto made = program->call({view}, {{3}, {3}}, whole(pick_call(3, 20)));
    const Picked picked{values_of<uint32_t>(made[0]), values_of<float>(made[1])};
    EXPECT_EQ(picked, expected_pick(values_of<float>(mx::contiguous(view)), 3, 20)) << from;
  }
  const mx::array turned = mx::transpose(array_of(some_numbers(60), {20, 3}));
  const auto made = program->call({turned}, {{3}, {3}}, whole(pick_call(3, 20)));
  EXPECT_EQ(values_of<float>(made[1]),
            expected_pick(values_of<float>(mx::contiguous(turned)), 3, 20).best);
  EXPECT_EQ(values_of<float>(program->call({mx::zeros({0, 5})}, {{0}, {0}}, pick_call(0, 5))[1]),
            std::vector<float>());
}

TEST_F(StagedNative, TakesOverWhatNobodyElseHolds) {
  const auto program = loaded(*open_device("cuda"), updating_candidate());
  const Call call = whole(add_call(3, 8, 2));
  const auto expected = expected_add(some_numbers(24), some_numbers(3), 3, 8, 2);
  mx::array cache = mx::add(array_of(some_numbers(24), {3, 8}), mx::array(0.0f));
  const mx::array x = array_of(some_numbers(3), {3});
  mx::eval(cache, x);
  mx::synchronize();
  const void* const memory = cache.buffer().ptr();
  mx::array copied = program->call({cache, x}, {{3, 8}}, call)[0];
  mx::eval(copied);
  EXPECT_NE(copied.buffer().ptr(), memory);
  EXPECT_EQ(values_of<float>(copied), expected);
  mx::synchronize();
  mx::array moved = program->call({std::move(cache), x}, {{3, 8}}, call)[0];
  mx::eval(moved);
  EXPECT_EQ(moved.buffer().ptr(), memory);
  EXPECT_EQ(values_of<float>(moved), expected);
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
