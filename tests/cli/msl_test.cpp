// The verbs of kd msl, as a user types them.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace mlx_kd {
namespace {

namespace fs = std::filesystem;

const std::string kSuite = std::string(MLX_KD_SOURCE_DIR) + "/tests/msl/suite/";

struct Result {
  int exit_code = -1;
  std::string output;
};

Result kd(const std::vector<std::string>& words) {
  std::string command = std::string("'") + MLX_KD_PROGRAM + "' msl";
  for (const std::string& word : words) command += " '" + word + "'";
  Result result;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return result;
  char part[4096];
  while (const size_t n = std::fread(part, 1, sizeof part, pipe)) result.output.append(part, n);
  result.exit_code = WEXITSTATUS(pclose(pipe));
  return result;
}

bool has(const Result& result, const std::string& part) {
  return result.output.find(part) != std::string::npos;
}

TEST(MslVerb, RunsAKernelAndShowsItsOutputs) {
  const auto result =
      kd({"run", kSuite + "elementwise.metal", "--fn", "axpy", "--grid", "8", "--threadgroup", "8",
          "--in", "x=arange:f32:[8]", "--in", "a=2:f32", "--out", "y=f32:[8]"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "0 2 4 6 8 10 12 14")) << result.output;
}

TEST(MslVerb, ChecksEachFunction) {
  const auto result = kd({"check", kSuite + "matrices.metal"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "accepted  kernel")) << result.output;
}

// A folder of its own, removed with what is in it.
class MslBody : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "kd_body_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
    write("double.metal",
          "uint i = thread_position_in_grid.x;\n"
          "y[i] = T(twice(x[i]) * N + x_shape[0]);\n");
    write("double.h", "template <typename U>\nU twice(U x) { return x + x; }\n");
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string path(const std::string& name) const { return (folder / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
  }
  Result with(const std::string& verb, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {
        verb,       path("double.metal"), "--body", "--header", path("double.h"),   "--template",
        "N=3",      "--template",         "T=f16",  "--in",     "x=arange:f16:[4]", "--out",
        "y=f16:[4]"};
    words.insert(words.end(), more.begin(), more.end());
    return kd(words);
  }

  fs::path folder;
};

TEST_F(MslBody, IsCheckedWithItsHeader) {
  const auto result = with("check");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "accepted  kernel")) << result.output;
}

TEST_F(MslBody, IsRunWithTheNamesAndShapesOfItsArrays) {
  const auto result = with("run", {"--grid", "4", "--threadgroup", "4", "--check", "races,memory",
                                   "--save", path("out")});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "4 10 16 22")) << result.output;
  EXPECT_EQ(fs::file_size(folder / "out" / "y.bin"), 8u);
  // What was saved is read again.
  const auto again =
      kd({"run", kSuite + "elementwise.metal", "--fn", "axpy", "--grid", "2", "--threadgroup", "2",
          "--in", "x=@" + path("out/y.bin") + ":f32:[2]", "--in", "a=0:f32", "--out", "y=f32:[2]"});
  EXPECT_EQ(again.exit_code, 0) << again.output;
  const auto longer =
      kd({"run", kSuite + "elementwise.metal", "--fn", "axpy", "--grid", "2", "--threadgroup", "2",
          "--in", "x=@" + path("out/y.bin") + ":f32:[3]", "--in", "a=0:f32", "--out", "y=f32:[2]"});
  EXPECT_EQ(longer.exit_code, 2);
  EXPECT_TRUE(has(longer, "has 8 bytes and the array 12")) << longer.output;
}

TEST_F(MslBody, OutputsStartFromWhatTheyAreFilledWith) {
  write("more.metal", "y[thread_position_in_grid.x] += x[0];\n");
  const auto more = [&](const std::string& out) {
    return kd({"run", path("more.metal"), "--body", "--grid", "3", "--threadgroup", "3", "--in",
               "x=5:f32:[1]", "--out", out});
  };
  const auto result = more("y=arange:f32:[3]");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "5 6 7")) << result.output;
  EXPECT_TRUE(has(more("y=f32:[3]"), "5 5 5"));
  const auto misread = more("y=f32");
  EXPECT_EQ(misread.exit_code, 2);
  EXPECT_TRUE(has(misread, "write NAME=TYPE:SHAPE or NAME=FILL:TYPE:SHAPE")) << misread.output;
}

TEST_F(MslBody, IsRefusedWithTheLineOfTheBodyOrTheHeader) {
  write("double.metal", "uint i = thread_position_in_grid.x;\ny[i] = nothing;\n");
  auto result = with("check");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(has(result, "kd_body:2")) << result.output;
  write("double.h", "double twice(double x);\n");
  result = with("check");
  EXPECT_TRUE(has(result, "kd_header:1")) << result.output;
}

TEST_F(MslBody, NeedsTheFlagAndArraysThatMetalHas) {
  for (const auto& result :
       {kd({"check", path("double.metal"), "--header", path("double.h")}),
        kd({"check", path("double.metal"), "--in", "x=zeros:f32:[4]"}),
        kd({"check", path("double.metal"), "--body"}), with("check", {"--template", "U=float64"}),
        with("check", {"--template", "U"}), with("check", {"--header", "none.h"})})
    EXPECT_EQ(result.exit_code, 2) << result.output;
}

TEST_F(MslBody, MayUseListsSequencesAndFastLengths) {
  write("double.h",
        "struct Row {\n"
        "  float v[3];\n"
        "  thread Row& operator=(initializer_list<float> given) thread {\n"
        "    const thread float* one = given.begin();\n"
        "    for (size_t i = 0; i < given.size(); ++i) v[i] = one[i];\n"
        "    return *this;\n"
        "  }\n"
        "};\n"
        "template <int... I>\n"
        "int total(integer_sequence<int, I...>) { return (I + ... + 0); }\n"
        "template <typename U> int width_of(U) { return 0; }\n"
        "template <uint N> int width_of(vec<bool, N>) { return N; }\n");
  write("double.metal",
        "Row row;\n"
        "row = {1, 2, 3};\n"
        "y[thread_position_in_grid.x] = half(row.v[0] + 4 * row.v[2] +\n"
        "  20 * total(make_integer_sequence<int, 5>{}) + 200 * fast::length(float2(3, 4)) + 8 * "
        "width_of(bool3(true)));\n");
  const auto result = with("run", {"--grid", "4", "--threadgroup", "4"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "1237")) << result.output;
}

class MslConstants : public MslBody {
 protected:
  void SetUp() override {
    MslBody::SetUp();
    write("add.metal",
          "#include <metal_stdlib>\nusing namespace metal;\n"
          "constant bool has_bias [[function_constant(0)]];\n"
          "constant int mode [[function_constant(1)]];\n"
          "constant bool scaled = is_function_constant_defined(mode) && mode >= 2 && !has_bias;\n"
          "kernel void add(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],\n"
          "                device const float* bias [[buffer(2), function_constant(has_bias)]],\n"
          "                constant float& scale [[buffer(3), function_constant(scaled)]],\n"
          "                uint i [[thread_position_in_grid]]) {\n"
          "  float v = x[i];\n"
          "  if (has_bias) v += bias[i];\n"
          "  if (scaled) v *= scale;\n"
          "  y[i] = v;\n"
          "}\n");
  }
  Result add(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {
        "run",  path("add.metal"),  "--grid", "4",        "--threadgroup", "4",
        "--in", "x=arange:f32:[4]", "--out",  "y=f32:[4]"};
    words.insert(words.end(), more.begin(), more.end());
    return kd(words);
  }
};

TEST_F(MslConstants, SwitchBuffersOffThatAreThenNotGiven) {
  for (const char* check : {"", "races,memory"}) {
    std::vector<std::string> more = {"--constant", "0=false", "--constant", "1=1"};
    if (*check) more.insert(more.end(), {"--check", check});
    const auto plain = add(more);
    EXPECT_EQ(plain.exit_code, 0) << plain.output;
    EXPECT_TRUE(has(plain, "0 1 2 3")) << plain.output;
  }
  const auto with_bias =
      add({"--constant", "0=true", "--constant", "1=2", "--in", "bias=1:f32:[4]"});
  EXPECT_EQ(with_bias.exit_code, 0) << with_bias.output;
  EXPECT_TRUE(has(with_bias, "1 2 3 4")) << with_bias.output;
  const auto scaled = add({"--constant", "0=0", "--constant", "1=2", "--in", "scale=3:f32"});
  EXPECT_EQ(scaled.exit_code, 0) << scaled.output;
  EXPECT_TRUE(has(scaled, "0 3 6 9")) << scaled.output;
  const auto both = add({"--constant", "0=false", "--constant", "1=1", "--in", "bias=1:f32:[4]",
                         "--in", "scale=3:f32"});
  EXPECT_EQ(both.exit_code, 0) << both.output;
  EXPECT_TRUE(has(both, "0 1 2 3")) << both.output;
}

TEST_F(MslConstants, MustSwitchABufferOffThatIsNotGiven) {
  for (const auto& [words, missing] :
       {std::pair<std::vector<std::string>, const char*>{
            {"--constant", "0=true", "--constant", "1=1"}, "buffer 'bias' of 'add' is not given"},
        {{"--constant", "0=false", "--constant", "1=3"}, "buffer 'scale' of 'add' is not given"},
        {{"--constant", "1=1"}, "or a --constant that makes 'has_bias' false"}}) {
    const auto result = add(words);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_TRUE(has(result, missing)) << result.output;
  }
}

TEST_F(MslConstants, MayBeMembersThatOthersAreMadeFrom) {
  write(
      "least.metal",
      "#include <metal_stdlib>\nusing namespace metal;\n"
      "struct Score { float value; uint index; static const constant Score LEAST; };\n"
      "constexpr constant Score Score::LEAST{.value = -2, .index = numeric_limits<uint>::max()};\n"
      "struct Start { static constant constexpr Score score = Score::LEAST; };\n"
      "template <int N> float checked(float v) { assert(N % 4 == 0); return v; }\n"
      "kernel void least(device float* y, uint i [[thread_position_in_grid]]) {\n"
      "  Score one = Score::LEAST;\n"
      "  y[i] = checked<8>(one.value + Start::score.value + numeric_limits<float4>::max().w);\n"
      "}\n");
  const auto result =
      kd({"run", path("least.metal"), "--grid", "2", "--threadgroup", "2", "--out", "y=f32:[2]"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "-4 -4")) << result.output;
}

TEST(MslVerb, TranslatesToCuda) {
  const auto result = kd({"to-cuda", kSuite + "reductions.metal"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(has(result, "extern \"C\" __global__ void row_sum_f16(")) << result.output;
}

TEST(MslVerb, TranslatesOneKernelToCuda) {
  const auto result = kd({"to-cuda", kSuite + "reductions.metal", "--fn", "row_sum_f16"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(has(result, "void row_sum_f16(")) << result.output;
  const auto all = kd({"to-cuda", kSuite + "reductions.metal"}).output;
  EXPECT_LT(result.output.size(), all.size());
  const auto none = kd({"to-cuda", kSuite + "reductions.metal", "--fn", "row"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_TRUE(has(none, "no kernel 'row': the source has ")) << none.output;
}

TEST(MslVerb, ExitsWith2OnMisuse) {
  const std::vector<std::string> run = {
      "run", kSuite + "elementwise.metal", "--fn", "axpy", "--threadgroup", "8", "--grid"};
  const auto with = [&](std::initializer_list<const char*> more) {
    std::vector<std::string> words = run;
    words.insert(words.end(), more.begin(), more.end());
    return kd(words);
  };
  for (const auto& result :
       {with({"0"}), with({"8"}), with({"8", "--device", "gpu"}), with({"8", "--check", "all"}),
        with({"8", "--order", "any"}), with({"8", "--in", "x=rand"}),
        with({"8", "--constant", "x"}), kd({"check", "no such file"}), kd({"check"}), kd({})})
    EXPECT_EQ(result.exit_code, 2) << result.output;
}

}  // namespace
}  // namespace mlx_kd
