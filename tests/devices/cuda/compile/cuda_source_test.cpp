// Kernels in CUDA C++ before they reach a GPU: macros, messages of the compiler, sizes of launches.
#include "mlx_kd/devices/cuda/compile/cuda_source.h"

#include <algorithm>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/refusals.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cuda {
namespace text {
#define KD_INPUTS 2
#define KD_OUTPUTS 1
#define KD_DIMS 3
#define KD_SCALARS 1
#include "mlx_kd/kernels/common/kd_arguments.h"
}  // namespace text

namespace {

// kd_arguments as a source of two inputs and one output sees it.
TEST(PackedArguments, AreLaidOutAsKernelsSeeThem) {
  using Text = text::kd_arguments;
  KernelArguments arguments = {};
  arguments.inputs[1] = &arguments;
  arguments.outputs[0] = &arguments;
  arguments.scratch[3] = &arguments;
  arguments.dims[2] = 7;
  arguments.scalars[0] = 0.5;
  arguments.strides[2] = {1, 2, 3, 4};
  arguments.stage = 5;
  PackedArguments packed({2, 1, 3, 1}, arguments);
  ASSERT_EQ(packed.bytes(), sizeof(Text));
  Text seen;
  std::memcpy(&seen, packed.data(), sizeof seen);
  EXPECT_EQ(seen.inputs[1], &arguments);
  EXPECT_EQ(seen.outputs[0], &arguments);
  EXPECT_EQ(seen.scratch[3], &arguments);
  EXPECT_EQ(seen.dims[2], 7);
  EXPECT_EQ(seen.scalars[0], 0.5);
  EXPECT_EQ(seen.strides[2][3], 4);
  EXPECT_EQ(seen.stage, 5);
  packed.set_stage(6);
  std::memcpy(&seen, packed.data(), sizeof seen);
  EXPECT_EQ(seen.stage, 6);
}

TEST(CudaSource, DefinesWhatItsArgumentsHold) {
  const std::vector<std::string> options = source_options(totals_candidate(), kSm);
  for (const char* expected :
       {"-DKD_DIM_D=1", "-DKD_SCALAR_scale=0", "-DKD_TYPE_seen=4", "-DPARTS=3", "-DKD_INPUTS=1",
        "-DKD_OUTPUTS=2", "-DKD_DIMS=2", "-DKD_SCALARS=1", "--gpu-architecture=sm_90a"})
    EXPECT_EQ(std::count(options.begin(), options.end(), expected), 1) << expected;
}

TEST(CudaSource, RefusesMoreThanTheArgumentsHold) {
  spec::Candidate candidate = totals_candidate();
  candidate.inputs_spec = base::Json::array();
  for (int i = 0; i < 17; ++i) candidate.inputs_spec.push_back(port("x"));
  EXPECT_TRUE(has(misuse_of([&] { argument_counts(candidate); }), "'totals' has 17 inputs"));
  candidate = totals_candidate();
  candidate.scalar_names.assign(9, "s");
  EXPECT_TRUE(has(misuse_of([&] { argument_counts(candidate); }), "9 numbers"));
}

TEST(CudaSource, CompilesForAnArchitectureThatIsNotHere) {
  KD_NEEDS_NVRTC();
  for (const spec::Candidate& source :
       {totals_candidate(), put_candidate(), steps_candidate(), clusters_candidate()}) {
    const Cubin cubin = compile_source(source, source_options(source, kSm));
    EXPECT_FALSE(cubin.bytes.empty()) << source.op_name << ": " << cubin.error;
  }
}

std::string error_of(const std::string& kernel_text, const std::string& func_name = "k") {
  const spec::Candidate source = cuda_candidate("bad", kernel_text, func_name);
  return compile_source(source, source_options(source, kSm)).error;
}

TEST(CudaSource, NamesFileAndLineOfAnError) {
  KD_NEEDS_NVRTC();
  const std::string error = error_of(
      "extern \"C\" __global__ void k(const __grid_constant__ kd_arguments a) {\n  nothing = "
      "1;\n}\n");
  EXPECT_TRUE(has(error, "bad.cu:2: ") && has(error, "nothing")) << error;
}

TEST(CudaSource, NamesAFunctionThatIsMissing) {
  KD_NEEDS_NVRTC();
  EXPECT_EQ(error_of("extern \"C\" __global__ void other() {}\n"),
            "bad.cu has no kernel 'k': define it as extern \"C\" __global__");
  EXPECT_TRUE(has(error_of("__global__ void k() {}\n"), "extern \"C\""));  // its name is mangled
}

TEST(CudaSource, SaysWhereHeadersOfCudaComeFrom) {
  KD_NEEDS_NVRTC();
  const std::string error = error_of("#include <no_such_header.h>\n");
  EXPECT_TRUE(has(error, "no_such_header.h") && has(error, "MLX_KD_CUDA_INCLUDE")) << error;
}

TEST(CudaSource, IncludesHeadersOfCuda) {
  KD_NEEDS_NVRTC();
  if (cuda_include_folders().empty()) GTEST_SKIP() << "no headers of CUDA";
  EXPECT_EQ(error_of("#include <cuda_bf16.h>\nextern \"C\" __global__ void k(__nv_bfloat16* x) "
                     "{ *x = __float2bfloat16(1.0f); }\n"),
            "");
}

TEST(CudaSource, HasAKeyOfAllThatDecidesTheObject) {
  KD_NEEDS_NVRTC();
  const spec::Candidate source = totals_candidate();
  const std::string key = source_key(source, source_options(source, kSm));
  EXPECT_EQ(key, source_key(source, source_options(source, kSm)));
  spec::Candidate other = source;
  other.knobs.set("PARTS", 4);
  EXPECT_NE(key, source_key(other, source_options(other, kSm)));
  EXPECT_NE(key, source_key(source, source_options(source, 100)));
}

TEST(CudaCompilerOfSources, KeepsWhatItMadeInTheCache) {
  KD_NEEDS_NVRTC();
  const tests::TempDir folder;
  const CudaCompiler compiler(kSm, cpu::ObjectCache(folder.path(), 64 << 20));
  spec::Candidate candidate = cuda_candidate(
      "idle", "extern \"C\" __global__ void kd_idle(const __grid_constant__ kd_arguments a) {}\n",
      "kd_idle");
  const Artifact first = compiler.compile(candidate, 60);
  ASSERT_TRUE(first.ok) << first.error;
  const Artifact second = compiler.compile(candidate, 60);
  EXPECT_TRUE(second.ok && second.cached && second.path == first.path);
  candidate.func_name = "kd_other";
  const Artifact refused = compiler.compile(candidate, 60);
  EXPECT_FALSE(refused.ok);
  EXPECT_TRUE(has(refused.error, "idle.cu has no kernel 'kd_other'")) << refused.error;
}

// Two kernels, each of which can be compiled alone, and a third that cannot.
spec::Candidate pair_candidate() {
  const std::string alone =
      base::read_file(MLX_KD_SOURCE_DIR "/mlx_kd/kernels/common/alone.cu.h", "test");
  return cuda_candidate("pair", alone + R"(
#define KD_KERNEL(name, value)                                                        \
  KD_WHERE_WANTED(name, extern "C" __global__ void name(                              \
                            const __grid_constant__ kd_arguments a) {                 \
    const float both[2] = {value, value}; static_cast<float*>(a.outputs[0])[0] = both[1]; \
  })
#define KD_KERNELS(name) KD_KERNEL(name, 1.0f) KD_KERNEL(name##_two, 2.0f)
KD_KERNELS(kd_pair)
)",
                        "kd_pair");
}

TEST(CudaSource, CompilesAKernelAlone) {
  KD_NEEDS_NVRTC();
  const spec::Candidate pair = pair_candidate();
  ASSERT_TRUE(has_kernels_alone(pair));
  EXPECT_FALSE(has_kernels_alone(totals_candidate()));
  const auto compiled = [&](const std::string& name) {
    const Cubin made = compile_source(pair, source_options(pair, kSm, name), name);
    EXPECT_EQ(made.error, "");
    return made.bytes;
  };
  const std::string zero("\0", 1), first = ".text.kd_pair" + zero,
                                   second = ".text.kd_pair_two" + zero;
  const std::string one = compiled("kd_pair"), two = compiled("kd_pair_two");
  EXPECT_TRUE(has(one, first) && !has(one, second));
  EXPECT_TRUE(has(two, second) && !has(two, first));
  EXPECT_NE(source_key(pair, source_options(pair, kSm, "kd_pair")),
            source_key(pair, source_options(pair, kSm, "kd_pair_two")));
  EXPECT_EQ(compile_source(pair, source_options(pair, kSm, "kd_three"), "kd_three").error,
            "pair.cu has no kernel 'kd_three': define it as extern \"C\" __global__");
}

TEST(CudaCompilerOfSources, MakesWhatWasLaunchedWithTheNextCandidate) {
  KD_NEEDS_NVRTC();
  const tests::TempDir folder;
  const CudaCompiler compiler(kSm, cpu::ObjectCache(folder.path(), 64 << 20));
  spec::Candidate pair = pair_candidate();
  ASSERT_TRUE(compiler.compile(pair, 60).ok);
  EXPECT_EQ(compiler.cache().usage().entries, 1);
  const Artifact alone = compiler.compile_alone(pair, "kd_pair_two");
  EXPECT_TRUE(alone.ok && !alone.cached) << alone.error;
  pair.knobs.set("OTHER", 1);
  ASSERT_TRUE(compiler.compile(pair, 60).ok);
  EXPECT_EQ(compiler.cache().usage().entries, 4);
  EXPECT_TRUE(compiler.compile_alone(pair, "kd_pair_two").cached);
  EXPECT_FALSE(compiler.compile_alone(pair, "kd_three").ok);
  EXPECT_TRUE(compiler.compile(pair, 60).ok);
  pair.dtype = spec::Dtype::float16;  // of which nothing was launched
  EXPECT_TRUE(compiler.compile(pair, 60).ok);
  EXPECT_EQ(compiler.cache().usage().entries, 5);
}

std::string size_refusal(const spec::Stage& one, const FunctionLimits& limits) {
  return misuse_of([&] { stage_size("op", one, limits); });
}

TEST(StageSize, LaunchesWholeGroupsOfAnyShape) {
  const LaunchSize size =
      stage_size("op", stage("k", {1000, 7, 3}, {32, 4, 2}), {1024, 0, 232448, 90});
  EXPECT_EQ(size.blocks, (std::array<unsigned, 3>{32, 2, 2}));
  EXPECT_EQ(size.threads, (std::array<unsigned, 3>{32, 4, 2}));
}

TEST(StageSize, RefusesWhatTheChipOrTheFunctionDoesNotTake) {
  const FunctionLimits limits{1024, 0, 232448, 90};
  const auto has_all = [&](const spec::Stage& one, std::initializer_list<const char*> parts) {
    const std::string message = size_refusal(one, limits);
    for (const char* part : parts) EXPECT_TRUE(has(message, part)) << message;
  };
  has_all(stage("k", {0, 1, 1}, {1, 1, 1}), {"'k' of 'op'", "0 threads", "in x"});
  has_all(stage("k", {4096, 1, 1}, {2048, 1, 1}), {"groups of 2048 threads in x", "1024"});
  has_all(stage("k", {1, 1, 128}, {1, 1, 128}), {"128 threads in z", "64"});
  has_all(stage("k", {64, 64, 1}, {64, 32, 1}), {"64 x 32 x 1 = 2048 threads", "1024"});
  has_all(stage("k", {1, 70000, 1}, {1, 1, 1}), {"70000 groups in y", "65535"});
  has_all(stage("k", {1, 1, 1}, {1, 1, 1}, 232449), {"232449 bytes of shared memory", "232448"});
  has_all(stage("k", {3, 1, 1}, {1, 1, 1}, 0, {2, 1, 1}),
          {"clusters of 2 x 1 x 1", "3 groups in x"});
  has_all(stage("k", {32, 1, 1}, {1, 1, 1}, 0, {32, 1, 1}), {"clusters of 32", "1 to 16"});
}

TEST(StageSize, CountsRegistersStaticMemoryAndTheChipsAge) {
  EXPECT_TRUE(has(size_refusal(stage("k", {1024, 1, 1}, {1024, 1, 1}), {640, 0, 232448, 90}),
                  "__launch_bounds__(1024)"));
  EXPECT_TRUE(
      has(size_refusal(stage("k", {1, 1, 1}, {1, 1, 1}, 100000), {1024, 150000, 232448, 90}),
          "besides the 150000 that it declares"));
  EXPECT_TRUE(
      has(size_refusal(stage("k", {2, 1, 1}, {1, 1, 1}, 0, {2, 1, 1}), {1024, 0, 100000, 80}),
          "sm_80 has none"));
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
