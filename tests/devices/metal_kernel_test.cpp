// metal_kernel on the CPU and, where there is one, on an NVIDIA GPU: what MLX's own gives on a Mac,
// and its errors.
#include "mlx_kd/devices/metal_text/metal_kernel.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "mlx/ops.h"
#include "mlx/random.h"
#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"

namespace mlx_kd::devices {
namespace {

namespace mx = mlx::core;

// Where the test at work runs.
mx::Device& here() {
  static mx::Device device = mx::Device::cpu;
  return device;
}

class MetalKernelOn : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const bool gpu = std::string(GetParam()) == "gpu";
    if (std::string why; gpu && !(cuda::find_gpu(&why) && cuda::find_nvrtc(&why)))
      GTEST_SKIP() << "no GPU that runs CUDA: " << why;
    if (gpu && !mx::is_available(mx::Device::gpu)) GTEST_SKIP() << "this MLX has no CUDA";
    here() = gpu ? mx::Device::gpu : mx::Device::cpu;
  }
  void TearDown() override { here() = mx::Device::cpu; }
};
INSTANTIATE_TEST_SUITE_P(All, MetalKernelOn, testing::Values("cpu", "gpu"),
                         [](const auto& one) { return std::string(one.param); });

mx::array normal(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
  mx::array result = mx::random::normal(shape, mx::float32, 0, 1, mx::random::key(7), here());
  result = mx::astype(result, dtype, here());
  mx::eval(result);
  return result;
}

MetalKernelCall call_of(const std::vector<mx::array>& inputs, const mx::Shape& shape,
                        mx::Dtype dtype, int threads, int group) {
  return {inputs, {shape},      {dtype}, {threads, 1, 1}, {group, 1, 1},
          {},     std::nullopt, false,   here()};
}

bool same(const mx::array& a, const mx::array& b) {
  return mx::array_equal(a, b, here()).item<bool>();
}

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_P(MetalKernelOn, GivesTheBodyShapesStridesAndTemplateArguments) {
  const MetalKernel kernel({"strided",
                            {"inp"},
                            {"out"},
                            R"(uint i = thread_position_in_grid.x;
                               uint at = elem_to_loc(i, inp_shape, inp_strides, inp_ndim);
                               out[i] = NEGATE ? T(-inp[at] * BY) : T(inp[at] * BY);)",
                            "",
                            false});
  const mx::array x = mx::transpose(normal({6, 10}, mx::float16), {1, 0}, here());
  MetalKernelCall call = call_of({x}, x.shape(), mx::float16, 60, 16);
  call.templates = {{"T", mx::float16}, {"BY", 3}, {"NEGATE", true}};
  EXPECT_TRUE(same(kernel(call)[0], mx::multiply(x, mx::array(-3, mx::float16), here())));
}

TEST_P(MetalKernelOn, CopiesInputsThatAreNotRowContiguousUnlessToldNotTo) {
  MetalKernelText text{"copied",
                       {"inp"},
                       {"out"},
                       "out[thread_position_in_grid.x] = inp[thread_position_in_grid.x];"};
  const mx::array base = normal({4, 8});
  mx::array x = mx::transpose(base, {1, 0}, here());
  EXPECT_TRUE(same(MetalKernel(text)(call_of({x}, x.shape(), mx::float32, 32, 32))[0], x));
  x.eval();  // a GPU takes inputs as they lie where it knows how
  text.ensure_row_contiguous = false;
  const mx::array raw = MetalKernel(text)(call_of({x}, {4, 8}, mx::float32, 32, 32))[0];
  EXPECT_TRUE(same(raw, base));
}

// The second call of a size takes what the first one made.
TEST_P(MetalKernelOn, MayBeCalledAgainWithOtherArraysAndOtherSizes) {
  const MetalKernel kernel(
      {"again", {"x"}, {"out"}, "uint i = thread_position_in_grid.x; out[i] = x[i] + 1;"});
  const mx::array one(1.0f);
  for (const int n : {64, 64, 96, 64}) {
    const mx::array x = mx::multiply(normal({n}), mx::array(static_cast<float>(n)), here());
    EXPECT_TRUE(same(kernel(call_of({x}, {n}, mx::float32, n, 32))[0], mx::add(x, one, here())));
  }
  MetalKernelCall call = call_of({normal({64})}, {80}, mx::float32, 64, 32);
  for (const float rest : {3.0f, 4.0f}) {
    call.init_value = rest;
    const mx::array y = kernel(call)[0];
    EXPECT_EQ(mx::slice(y, {79}, {80}, here()).item<float>(), rest);
  }
}

// More elements than 32 bits with a sign count; needs 5 GB of memory.
TEST_P(MetalKernelOn, IndexesArraysOfMoreThan2To31Elements) {
  if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes 5 GB: set MLX_KD_LONG=1";
  const std::string each =
      "size_t first = size_t(thread_position_in_grid.x) * 1024;\n"
      "for (size_t i = first; i < first + 1024; ++i) ";
  const std::string value = "uchar(i ^ (i >> 7) ^ (i >> 15) ^ (i >> 23))";
  const MetalKernel fill({"fill", {"x"}, {"out"}, each + "out[i] = " + value + ";"});
  const MetalKernel copy({"copy", {"x"}, {"out"}, each + "out[i] = x[i];"});
  const MetalKernel compare({"compare",
                             {"x"},
                             {"out"},
                             "uint wrong = 0;\n" + each + "wrong += x[i] != " + value +
                                 ";\nout[thread_position_in_grid.x] = wrong;"});
  constexpr int kRows = (1 << 21) + 3;  // of 1,024: 2^31 + 3,072 elements
  const auto call = [&](const mx::array& x, const mx::Shape& shape, mx::Dtype dtype) {
    return call_of({x}, shape, dtype, kRows, 256);
  };
  const mx::array filled =
      fill(call(mx::zeros({8}, mx::uint8, here()), {kRows, 1024}, mx::uint8))[0];
  const mx::array copied = copy(call(filled, {kRows, 1024}, mx::uint8))[0];
  const mx::array wrong = compare(call(copied, {kRows}, mx::uint32))[0];
  EXPECT_EQ(mx::sum(wrong, here()).item<uint32_t>(), 0u);
  EXPECT_EQ(wrong.size(), size_t{kRows});
}

// A slice starts where no float4 may.
TEST_P(MetalKernelOn, LetsABodyReadVectorsFromAnyArray) {
  const MetalKernel kernel({"vectors",
                            {"inp"},
                            {"out"},
                            R"(uint i = thread_position_in_grid.x;
                               float4 v = ((const device float4*)inp)[i];
                               ((device float4*)out)[i] = v.wzyx;)"});
  const mx::array x = normal({4100});
  const mx::array part = mx::slice(x, {1}, {4097}, here());
  const mx::array wanted = mx::flatten(
      mx::take(mx::reshape(part, {1024, 4}, here()), mx::array({3, 2, 1, 0}), 1, here()), here());
  EXPECT_TRUE(same(kernel(call_of({part}, {4096}, mx::float32, 1024, 256))[0], wanted));
}

TEST_P(MetalKernelOn, InitialisesAtomicOutputs) {
  const MetalKernel kernel({"histogram",
                            {"inp"},
                            {"out"},
                            R"(uint i = thread_position_in_grid.x;
                               atomic_fetch_add_explicit(&out[inp[i]], 1, memory_order_relaxed);)",
                            "",
                            true,
                            true});
  const mx::array x =
      mx::remainder(mx::arange(0, 1000, 1, mx::int32, here()), mx::array(10, mx::int32), here());
  MetalKernelCall call = call_of({x}, {10}, mx::int32, 1000, 64);
  call.init_value = 5;
  EXPECT_TRUE(same(kernel(call)[0], mx::full({10}, 105, mx::int32, here())));
}

TEST_P(MetalKernelOn, PassesScalarsAndSmallArraysAsConstants) {
  const MetalKernel kernel(
      {"small", {"x", "by", "few"}, {"out"}, R"(uint i = thread_position_in_grid.x;
                                                  constant float* three = few;
                                                  out[i] = x[i] * by + three[i % 3];)"});
  const mx::array x = normal({30});
  const mx::array few({1.0f, 2.0f, 3.0f});
  const mx::array wanted =
      mx::add(mx::multiply(x, mx::array(2.0f), here()), mx::tile(few, {10}, here()), here());
  EXPECT_TRUE(
      same(kernel(call_of({x, mx::array(2.0f), few}, {30}, mx::float32, 30, 32))[0], wanted));
  const MetalKernel wrong(
      {"space", {"few"}, {"out"}, "const device float* p = few;\nout[0] = p[0];"});
  const std::string message = message_of([&] { wrong(call_of({few}, {1}, mx::float32, 1, 1)); });
  EXPECT_TRUE(has(message, "kd_body:1")) << message;
}

TEST(MetalKernel, RefusesWhatMLXRefusesInItsWords) {
  EXPECT_EQ(message_of([] {
              MetalKernel({"none", {"x"}, {}, ""});
            }),
            "[metal_kernel] Must specify at least one output.");
  const MetalKernel kernel({"two", {"x", "y"}, {"out"}, "out[0] = x[0] + y[0];"});
  EXPECT_EQ(message_of([&] { kernel(call_of({normal({8})}, {1}, mx::float32, 1, 1)); }),
            "[metal_kernel] Expected `inputs` to have size 2 but got size 1.\n");
  MetalKernelCall call = call_of({normal({8}), normal({8})}, {1}, mx::float32, 1, 1);
  call.output_dtypes.clear();
  EXPECT_EQ(message_of([&] { kernel(call); }),
            "[metal_kernel] Expected `output_dtypes` to have size 1 but got size 0.\n");
  EXPECT_THROW(kernel(call), std::invalid_argument);
}

TEST_P(MetalKernelOn, RefusesSizesAndTypesThatMetalDoesNotTake) {
  const MetalKernel kernel({"sizes", {"x"}, {"out"}, "out[0] = x[0];"});
  const mx::array x = normal({8});
  const auto told = [&](int grid, int group, const mx::Shape& shape, mx::Dtype dtype) {
    return message_of([&] { kernel(call_of({x}, shape, dtype, grid, group)); });
  };
  EXPECT_TRUE(has(told(0, 1, {1}, mx::float32), "grid of 0 x 1 x 1"));
  EXPECT_TRUE(has(told(8, 0, {1}, mx::float32), "threadgroup of 0 x 1 x 1"));
  EXPECT_TRUE(has(told(4096, 2048, {1}, mx::float32), "2048 threads"));
  EXPECT_TRUE(has(told(8, 8, {-1}, mx::float32), "axis of -1"));
  EXPECT_TRUE(has(told(8, 8, {2000000000, 2000000000}, mx::float32), "more bytes than"));
  EXPECT_TRUE(has(told(8, 8, {1}, mx::float64), "no type for 'float64'"));
}

TEST_P(MetalKernelOn, NamesTheLineOfTheBodyOrHeaderThatIsWrong) {
  const auto told = [](const std::string& source, const std::string& header) {
    return message_of([&] {
      MetalKernel({"bad", {"x"}, {"out"}, source, header})(
          call_of({normal({8})}, {8}, mx::float32, 8, 8));
    });
  };
  EXPECT_TRUE(has(told("out[0] = x[0];\nout[1] = missing;", ""), "kd_body:2:"));
  EXPECT_TRUE(has(told("out[0] = x[0];", "int f() {\n  return missing;\n}"), "kd_header:2:"));
}

TEST_P(MetalKernelOn, IsUsableFromManyThreads) {
  const MetalKernel kernel(
      {"threads", {"x"}, {"out"}, "uint i = thread_position_in_grid.x; out[i] = 2 * x[i];"});
  std::vector<std::thread> threads;
  std::array<bool, 4> right{};
  for (size_t t = 0; t < right.size(); ++t)
    threads.emplace_back([&, t] {
      const mx::array x = normal({512});
      const mx::array y = kernel(call_of({x}, {512}, mx::float32, 512, 64))[0];
      right[t] = same(y, mx::add(x, x, here()));
    });
  for (std::thread& one : threads) one.join();
  EXPECT_EQ(right, (std::array<bool, 4>{true, true, true, true}));
}

TEST(MetalKernel, TellsOfAKernelThatEndedEarlyAtTheNextCall) {
  const MetalKernel kernel({"greedy", {"x"}, {"out"}, R"(threadgroup float all[16 * 1024];
      all[thread_position_in_grid.x] = x[0];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[0] = all[0];)"});
  const auto call = call_of({normal({8})}, {1}, mx::float32, 8, 8);
  const std::string at_once = message_of([&] { mx::eval(kernel(call)); });
  const std::string later = message_of([&] { kernel(call); });
  EXPECT_TRUE(has(at_once + later, "32")) << at_once << "\n" << later;
}

}  // namespace
}  // namespace mlx_kd::devices
