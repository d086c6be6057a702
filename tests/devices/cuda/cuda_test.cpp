// The device cuda: what needs no GPU, what needs NVRTC alone, and what needs both. A test that
// lacks something skips and says what.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/cuda/compile/msl_session.h"
#include "mlx_kd/devices/cuda/driver/choice.h"
#include "mlx_kd/devices/cuda/driver/device_clock.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/msl/parse/parser.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/refusals.h"
#include "tests/devices/simt/accuracy.h"
#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::cuda {
namespace {

TEST(CudaDevice, IsListedWithWhatItLacks) {
  for (const DeviceReport& report : list_devices()) {
    if (report.kind != "cuda") continue;
    EXPECT_EQ(report.available, find_gpu() && find_nvrtc());
    EXPECT_FALSE(report.detail.empty());
    return;
  }
  FAIL() << "no device 'cuda'";
}

TEST(CudaDevice, WithoutAGpuCannotBeOpenedAndSaysWhy) {
  std::string why;
  if (find_gpu(&why)) GTEST_SKIP() << "this machine has a GPU";
  int exit_code = 0;
  const std::string text = refusal_of([] { open_device("cuda"); }, &exit_code);
  EXPECT_EQ(exit_code, 2);
  EXPECT_TRUE(has(text, "cuda") && has(text, why)) << text;
}

TEST(CudaDevice, NamesTheSettingThatHidesTheGpus) {
  EXPECT_EQ(why_none_is_shown(nullptr), "the driver shows no GPU");
  for (const char* visible : {"", "7", "GPU-0"}) {
    const std::string why = why_none_is_shown(visible);
    EXPECT_TRUE(has(why, "CUDA_VISIBLE_DEVICES is '" + std::string(visible) + "'")) << why;
    EXPECT_TRUE(has(why, "unset it")) << why;
  }
}

TEST(CudaDevice, OfAnIndexIsAnEntryOfWhatIsShown) {
  EXPECT_EQ(visible_of(nullptr, 1, 2), "1");
  EXPECT_EQ(visible_of("", 0, 1), "0");
  EXPECT_EQ(visible_of("3,5,GPU-8932f937", 0, 3), "3");
  EXPECT_EQ(visible_of("3,5,GPU-8932f937", 1, 3), "5");
  EXPECT_EQ(visible_of("3,5,GPU-8932f937", 2, 3), "GPU-8932f937");
  const std::string text = refusal_of([] { visible_of(nullptr, 2, 2); });
  EXPECT_TRUE(has(text, "there is no GPU cuda:2: 2 GPUs are shown, cuda:0 to cuda:1")) << text;
  EXPECT_TRUE(has(refusal_of([] { visible_of("4", 1, 1); }), "1 GPU is shown, cuda:0"));
}

TEST(CudaLaunch, RoundsUpToWholeGroupsNoLargerThanTheGrid) {
  const LaunchSize size = launch_size({1000, 3, 1}, {256, 1, 1});
  EXPECT_EQ(size.blocks, (std::array<unsigned, 3>{4, 3, 1}));
  EXPECT_EQ(size.threads, (std::array<unsigned, 3>{256, 1, 1}));
  EXPECT_EQ(launch_size({40, 1, 1}, {256, 1, 1}).threads[0], 40u);
}

TEST(CudaLaunch, RefusesSizesThatMetalOrCudaDoesNotTake) {
  using Size = std::array<int64_t, 3>;
  const std::pair<Size, Size> cases[] = {
      {{0, 1, 1}, {1, 1, 1}},         {{1, 1, 1}, {1, 0, 1}},
      {{4096, 4096, 1}, {64, 32, 1}}, {{1, 70000, 1}, {1, 1, 1}},
      {{1, 1, 81}, {1, 1, 81}},       {{int64_t{1} << 32, 1, 1}, {1024, 1, 1}}};
  for (const auto& [grid, group] : cases) {
    int exit_code = 0;
    refusal_of([&, g = grid, t = group] { launch_size(g, t); }, &exit_code);
    EXPECT_EQ(exit_code, 2) << grid[0] << "," << grid[1] << " by " << group[0];
  }
}

TEST(Cubin, NamesThePlaceInTheMetalText) {
  KD_NEEDS_NVRTC();
  const msl::Unit unit = msl::parse(
      "k.metal",
      "#include <metal_stdlib>\nusing namespace metal;\nkernel void k(device float* y) {\n  y[0] = "
      "nothing;\n}\n",
      {});
  const auto translation = msl::translate(unit, msl::Target::cuda, {});
  const Cubin cubin = compile_cuda("k.metal", translation.text, nvrtc_options(kSm));
  EXPECT_TRUE(cubin.bytes.empty());
  EXPECT_TRUE(has(cubin.error, "k.metal:4: ") && has(cubin.error, "nothing")) << cubin.error;
}

TEST(Cubin, LimitsRegistersWhereAGroupMightNotFit) {
  const auto last = [](int64_t threads) { return nvrtc_options(kSm, threads).back(); };
  EXPECT_EQ(last(256), "-w");
  EXPECT_EQ(last(257), "--maxrregcount=128");
  EXPECT_EQ(last(512), "--maxrregcount=128");
  EXPECT_EQ(last(513), "--maxrregcount=64");
}

TEST(Cubin, OfAnUnknownArchitectureIsARefusal) {
  KD_NEEDS_NVRTC();
  const Cubin cubin = compile_cuda("k.cu", "__global__ void k() {}", nvrtc_options(11));
  EXPECT_TRUE(cubin.bytes.empty());
  EXPECT_FALSE(cubin.error.empty());
}

// Each file of the suite, for an architecture that need not be here.
TEST(Cubin, IsMadeOfEveryFileOfTheSuite) {
  KD_NEEDS_NVRTC();
  std::set<std::string> seen;
  for (const simt::SuiteCase& one : simt::suite()) {
    if (!seen.insert(one.file).second) continue;
    const msl::Unit& unit = simt::session_of(one).unit();
    msl::TranslateOptions options;
    options.function_constants = one.constants;
    const auto translation = msl::translate(unit, msl::Target::cuda, options);
    const Cubin cubin = compile_cuda(one.file, translation.text, nvrtc_options(kSm));
    EXPECT_FALSE(cubin.bytes.empty()) << cubin.error;
  }
}

TEST(Cubin, IsMadeOfMetalsTablesOfAccuracy) {
  KD_NEEDS_NVRTC();
  using simt::AccuracyTable;
  for (const auto table : {AccuracyTable::precise, AccuracyTable::fast, AccuracyTable::half}) {
    const msl::Unit unit = msl::parse("accuracy.metal", simt::accuracy_source(table), {});
    const auto translation = msl::translate(unit, msl::Target::cuda, {});
    const Cubin cubin = compile_cuda("accuracy.metal", translation.text, nvrtc_options(kSm));
    EXPECT_FALSE(cubin.bytes.empty()) << cubin.error;
  }
}

TEST(DeviceClock, TimesWorkAndRunsItAgain) {
  KD_NEEDS_GPU();
  use_gpu();
  const Memory memory(64 << 20);
  const TimedGraph one([&](Stream stream) {
    check(driver().fill_async(memory.at(), 7, 64 << 20, stream), "filling");
  });
  EXPECT_GT(one.run(), 0);
  EXPECT_GT(one.run(), 0);
  unsigned char read = 0;
  check(driver().read(&read, memory.at(), 1), "reading");
  EXPECT_EQ(read, 7);
}

TEST(CudaAccuracy, IsMetals) {
  KD_NEEDS_GPU();
  using simt::AccuracyTable;
  for (const auto table : {AccuracyTable::precise, AccuracyTable::fast, AccuracyTable::half}) {
    MslSession session("accuracy.metal", simt::accuracy_source(table), {}, {});
    simt::check_accuracy(table, [&](MslRequest& request) { session.run(request); });
  }
}

// 96 numbers of a thread are alive at the barrier: by itself the compiler takes more than the 64
// registers that each of 1,024 threads can have.
constexpr const char* kManyRegisters = R"(#include <metal_stdlib>
using namespace metal;
[[kernel]] void folded(device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  float kept[96];
#pragma unroll
  for (uint k = 0; k < 96; ++k) kept[k] = x[k * 1024 + i];
  threadgroup_barrier(mem_flags::mem_device);
  float sum = 0;
#pragma unroll
  for (uint k = 0; k < 96; ++k) sum += kept[k] * kept[95 - k];
  y[i] = sum;
}
)";

TEST(CudaSession, RunsGroupsOf1024ThreadsHoweverMuchAThreadKeeps) {
  KD_NEEDS_GPU();
  MslSession session("folded.metal", kManyRegisters, {}, {});
  for (const unsigned threads : {128u, 512u, 1024u}) {
    simt::SuiteCase one;
    one.kernel = "folded";
    one.grid = {1024, 1, 1};
    one.threadgroup = {threads, 1, 1};
    one.inputs = {"x=2:f32:[96,1024]"};
    one.outputs = {"y=f32:[1024]"};
    one.result = "y";
    one.expected = [](const simt::Given&) { return simt::Values(1024, 384); };
    const MslRequest given = simt::request_of(one);
    MslRequest request = given;
    session.run(request);
    EXPECT_EQ(simt::difference(one, given, request), "") << threads;
  }
}

class CudaSuite : public testing::TestWithParam<simt::SuiteCase> {};

MslSession& gpu_session_of(const simt::SuiteCase& one) {
  static std::map<std::string, std::unique_ptr<MslSession>> sessions;
  std::string key = one.file;
  for (const auto& [index, value] : one.constants) key += "," + std::to_string(index) + "=" + value;
  std::unique_ptr<MslSession>& session = sessions[key];
  if (!session) {
    msl::TranslateOptions options;
    options.function_constants = one.constants;
    session = std::make_unique<MslSession>(simt::path_of(one),
                                           base::read_file(simt::path_of(one), "test"),
                                           msl::PreprocessOptions{}, options);
  }
  return *session;
}

TEST_P(CudaSuite, ComputesWhatFloat64Says) {
  KD_NEEDS_GPU();
  if (GetParam().diverges) GTEST_SKIP() << "lanes of a warp must meet together in CUDA";
  const MslRequest given = simt::request_of(GetParam());
  MslRequest request = given;
  const MslOutcome outcome = gpu_session_of(GetParam()).run(request);
  EXPECT_EQ(simt::difference(GetParam(), given, request), "");
  RecordProperty("source", GetParam().file);
  RecordProperty("largest_error", std::to_string(simt::largest_error(GetParam(), given, request)));
  RecordProperty("us", std::to_string(1e6 * outcome.report.seconds));
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaSuite, testing::ValuesIn(simt::suite()),
                         [](const auto& one) { return one.param.kernel; });

}  // namespace
}  // namespace mlx_kd::devices::cuda
