// Kernels in CUDA C++ before they reach a GPU: macros, messages of the compiler, sizes of launches.
#include "mlx_kd/devices/cuda/cuda_source.h"

#include <algorithm>
#include <cstddef>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/cuda_compiler.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cuda {
namespace text {
#include "mlx_kd/kernels/common/kd_arguments.h"
}

namespace {

constexpr int kSm = 90;

std::string refusal_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const base::Error& error) {
    return error.exit_code() == 2 ? error.what() : "";
  }
  return "";
}

bool has(const std::string& all, const std::string& part) {
  return all.find(part) != std::string::npos;
}

TEST(KernelArguments, AreLaidOutAsKernelsSeeThem) {
  using Text = text::kd_arguments;
  EXPECT_EQ(sizeof(KernelArguments), sizeof(Text));
#define KD_SAME(member) EXPECT_EQ(offsetof(KernelArguments, member), offsetof(Text, member))
  KD_SAME(inputs);
  KD_SAME(outputs);
  KD_SAME(scratch);
  KD_SAME(dims);
  KD_SAME(scalars);
  KD_SAME(strides);
  KD_SAME(stage);
#undef KD_SAME
}

TEST(CudaSource, DefinesWhereKernelsFindTheirArguments) {
  const std::vector<std::string> macros = cuda_macros(totals_source());
  for (const char* expected :
       {"-DKD_DTYPE=0", "-DKD_DIM_rows=0", "-DKD_DIM_D=1", "-DKD_SCALAR_scale=0", "-DKD_TYPE_x=0",
        "-DKD_TYPE_total=0", "-DKD_TYPE_seen=4", "-DPARTS=3"})
    EXPECT_EQ(std::count(macros.begin(), macros.end(), expected), 1) << expected;
}

TEST(CudaSource, TakesPortsAndKnobsFromACandidate) {
  spec::Candidate candidate;
  candidate.op_name = "pick";
  candidate.language = "cuda";
  candidate.dtype = spec::Dtype::bfloat16;
  candidate.inputs_spec =
      base::Json::parse(R"([{"name": "logits"}, {"name": "key", "dtype": "uint32"}])");
  candidate.outputs_spec = base::Json::parse(R"([{"name": "token", "dtype": "uint32"}])");
  candidate.knobs = {{"VEC", 8}, {"GROUP", 256}};
  candidate.launch_params = {{"launch_kind", "cuda"}, {"GROUP", 256}};
  const std::vector<std::string> macros = cuda_macros(cuda_source(candidate));
  EXPECT_EQ(macros, (std::vector<std::string>{"-DKD_DTYPE=2", "-DKD_TYPE_logits=2",
                                              "-DKD_TYPE_key=4", "-DKD_TYPE_token=4", "-DVEC=8"}));
}

TEST(CudaSource, RefusesMoreThanTheArgumentsHold) {
  CudaSource source = totals_source();
  source.inputs.assign(17, {"x"});
  EXPECT_TRUE(has(refusal_of([&] { cuda_macros(source); }), "'totals' has 17 inputs"));
  source = totals_source();
  source.scalar_names.assign(9, "s");
  EXPECT_TRUE(has(refusal_of([&] { cuda_macros(source); }), "9 numbers"));
}

TEST(CudaSource, CompilesForAnArchitectureThatIsNotHere) {
  KD_NEEDS_NVRTC();
  for (const CudaSource& source :
       {totals_source(), put_source(), steps_source(), clusters_source()}) {
    const Cubin cubin = compile_source(source, cuda_source_options(source, kSm));
    EXPECT_FALSE(cubin.bytes.empty()) << source.op_name << ": " << cubin.error;
  }
}

std::string error_of(const std::string& kernel_text, const std::string& func_name = "k") {
  const CudaSource source = source_of("bad", kernel_text, func_name);
  return compile_source(source, cuda_source_options(source, kSm)).error;
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
  const CudaSource source = totals_source();
  const std::string key = source_key(source, cuda_source_options(source, kSm));
  EXPECT_EQ(key, source_key(source, cuda_source_options(source, kSm)));
  CudaSource other = source;
  other.knobs.set("PARTS", 4);
  EXPECT_NE(key, source_key(other, cuda_source_options(other, kSm)));
  EXPECT_NE(key, source_key(source, cuda_source_options(source, 100)));
}

TEST(CudaCompilerOfSources, KeepsWhatItMadeInTheCache) {
  KD_NEEDS_NVRTC();
  const tests::TempDir folder;
  const CudaCompiler compiler(kSm, cpu::ObjectCache(folder.path(), 64 << 20));
  spec::Candidate candidate;
  candidate.op_name = candidate.variant = "idle";
  candidate.language = "cuda";
  candidate.source = with_arguments(
      "extern \"C\" __global__ void kd_idle(const __grid_constant__ kd_arguments a) {}\n");
  candidate.func_name = "kd_idle";
  candidate.launch_params = {{"launch_kind", "cuda"}};
  const Artifact first = compiler.compile(candidate, 60);
  ASSERT_TRUE(first.ok) << first.error;
  const Artifact second = compiler.compile(candidate, 60);
  EXPECT_TRUE(second.ok && second.cached && second.path == first.path);
  candidate.func_name = "kd_other";
  const Artifact refused = compiler.compile(candidate, 60);
  EXPECT_FALSE(refused.ok);
  EXPECT_TRUE(has(refused.error, "idle.cu has no kernel 'kd_other'")) << refused.error;
}

std::string size_refusal(const PlanStage& stage, const FunctionLimits& limits) {
  return refusal_of([&] { stage_size("op", stage, limits); });
}

TEST(StageSize, LaunchesWholeGroupsOfAnyShape) {
  const LaunchSize size = stage_size("op", {"k", {1000, 7, 3}, {32, 4, 2}}, {1024, 0, 232448, 90});
  EXPECT_EQ(size.blocks, (std::array<unsigned, 3>{32, 2, 2}));
  EXPECT_EQ(size.threads, (std::array<unsigned, 3>{32, 4, 2}));
}

TEST(StageSize, RefusesWhatTheChipOrTheFunctionDoesNotTake) {
  const FunctionLimits limits{1024, 0, 232448, 90};
  const auto has_all = [&](const PlanStage& stage, std::initializer_list<const char*> parts) {
    const std::string message = size_refusal(stage, limits);
    for (const char* part : parts) EXPECT_TRUE(has(message, part)) << message;
  };
  has_all({"k", {0, 1, 1}, {1, 1, 1}}, {"'k' of 'op'", "0 threads", "in x"});
  has_all({"k", {4096, 1, 1}, {2048, 1, 1}}, {"groups of 2048 threads in x", "1024"});
  has_all({"k", {1, 1, 128}, {1, 1, 128}}, {"128 threads in z", "64"});
  has_all({"k", {64, 64, 1}, {64, 32, 1}}, {"64 x 32 x 1 = 2048 threads", "1024"});
  has_all({"k", {1, 70000, 1}, {1, 1, 1}}, {"70000 groups in y", "65535"});
  has_all({"k", {1, 1, 1}, {1, 1, 1}, 232449}, {"232449 bytes of shared memory", "232448"});
  has_all({"k", {3, 1, 1}, {1, 1, 1}, 0, {2, 1, 1}}, {"clusters of 2 x 1 x 1", "3 groups in x"});
  has_all({"k", {32, 1, 1}, {1, 1, 1}, 0, {32, 1, 1}}, {"clusters of 32", "1 to 16"});
}

TEST(StageSize, CountsRegistersStaticMemoryAndTheChipsAge) {
  EXPECT_TRUE(has(size_refusal({"k", {1024, 1, 1}, {1024, 1, 1}}, {640, 0, 232448, 90}),
                  "__launch_bounds__(1024)"));
  EXPECT_TRUE(has(size_refusal({"k", {1, 1, 1}, {1, 1, 1}, 100000}, {1024, 150000, 232448, 90}),
                  "besides the 150000 that it declares"));
  EXPECT_TRUE(has(size_refusal({"k", {2, 1, 1}, {1, 1, 1}, 0, {2, 1, 1}}, {1024, 0, 100000, 80}),
                  "sm_80 has none"));
}

TEST(ElementTypes, HaveMlxsNames) {
  for (int i = 0; i < 8; ++i) {
    const auto type = static_cast<ElementType>(i);
    EXPECT_EQ(parse_element_type(name_of(type)), type);
  }
  EXPECT_TRUE(has(refusal_of([] { parse_element_type("complex64"); }), "'complex64'"));
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
