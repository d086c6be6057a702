// What the ops say about themselves: sizes, ports, costs, launches, sources.
#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/kernels/op_table.h"
#include "support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

std::vector<std::string> texts_of(const spec::Op& op, const std::string& suite) {
  std::vector<std::string> texts;
  for (const spec::Suite& each : op.suites)
    if (each.name == suite)
      for (const Dims& size : each.sizes) texts.push_back(size.text());
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Suites, AreThoseOfTheFormats) {
  const Texts decode_2048 = {"rows=1,D=2048", "rows=2,D=2048", "rows=4,D=2048"};
  const Texts small_2048 = {"rows=128,D=2048", "rows=256,D=2048", "rows=512,D=2048",
                            "rows=1024,D=2048"};
  for (const char* name : {"rmsnorm", "rmsnorm_residual"}) {
    EXPECT_EQ(texts_of(find_op(name), "glm_flash_small"), small_2048);
    EXPECT_EQ(texts_of(find_op(name), "glm_flash_decode"), decode_2048);
  }
  for (const char* suite : {"qwen30b_decode", "lfm2_decode"}) {
    EXPECT_EQ(texts_of(find_op("rmsnorm"), suite), Texts{});
    EXPECT_EQ(texts_of(find_op("rmsnorm_residual"), suite), decode_2048);
    EXPECT_EQ(texts_of(find_op("rope"), suite), Texts{});
  }
  const spec::Op& swiglu = find_op("swiglu");
  EXPECT_EQ(texts_of(swiglu, "glm_flash_small"),
            (Texts{"rows=128,D=1536", "rows=256,D=1536", "rows=512,D=1536", "rows=1024,D=1536"}));
  EXPECT_EQ(texts_of(swiglu, "glm_flash_decode"),
            (Texts{"rows=1,D=1536", "rows=2,D=1536", "rows=4,D=1536"}));
  EXPECT_EQ(texts_of(swiglu, "qwen30b_decode"), decode_2048);
  EXPECT_EQ(texts_of(swiglu, "lfm2_decode"),
            (Texts{"rows=1,D=7168", "rows=2,D=7168", "rows=4,D=7168"}));
}

TEST(Suites, OfRopeHoldBothFormsOfTheLatentCache) {
  const spec::Op& rope = find_op("rope");
  EXPECT_EQ(texts_of(rope, "glm_flash_small"),
            (Texts{"B=1,H_Q=32,D_NOPE=128,D_ROPE=64", "B=2,H_Q=32,D_NOPE=128,D_ROPE=64",
                   "B=4,H_Q=32,D_NOPE=128,D_ROPE=64"}));
  EXPECT_EQ(texts_of(rope, "glm_flash_decode"),
            (Texts{"B=1,H_Q=24,D_NOPE=128,D_ROPE=64", "B=1,H_Q=32,D_NOPE=128,D_ROPE=64",
                   "B=1,H_Q=40,D_NOPE=128,D_ROPE=64"}));
  EXPECT_EQ(texts_of(rope, "glm_mla_decode"),
            (Texts{"B=1,H_Q=20,D_NOPE=512,D_ROPE=64", "B=2,H_Q=20,D_NOPE=512,D_ROPE=64",
                   "B=4,H_Q=20,D_NOPE=512,D_ROPE=64"}));
}

TEST(Ops, StartWithTheSuiteThatIsTheDefault) {
  for (const spec::Op& op : all_ops()) EXPECT_EQ(op.suites.front().name, "glm_flash_small");
}

TEST(Ops, CompleteSizesToTheSignatureOfAPin) {
  EXPECT_EQ(spec::complete(find_op("rmsnorm"), {{"rows", 3}, {"D", 5}}).text(), "rows=3,D=5");
  EXPECT_EQ(spec::complete(find_op("swiglu"), {{"D", 5}, {"rows", 3}}).text(), "rows=3,D=5,N=15");
  const Dims given = {{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 6}};
  const Dims complete = spec::complete(find_op("rope"), given);
  EXPECT_EQ(complete.text(), "B=1,H_Q=2,D_NOPE=8,D_ROPE=6,D_OUT=14");
  EXPECT_EQ(spec::complete(find_op("rope"), complete), complete)
      << "complete sizes stay as they are";
}

TEST(Ops, RefuseARopePartThatIsNoPairs) {
  try {
    spec::complete(find_op("rope"), {{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 7}});
    FAIL() << "an odd D_ROPE was taken";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find("D_ROPE is 7"), std::string::npos) << error.what();
  }
}

TEST(Ops, CallTheirPortsAsTheFirstVersionDid) {
  const auto names = [](const std::vector<spec::Port>& ports) {
    Texts result;
    for (const spec::Port& port : ports) result.push_back(port.name);
    return result;
  };
  EXPECT_EQ(names(find_op("rmsnorm").inputs), (Texts{"inp", "weight"}));
  EXPECT_EQ(names(find_op("rmsnorm").outputs), Texts{"out"});
  EXPECT_EQ(names(find_op("rmsnorm_residual").inputs), (Texts{"inp", "residual", "weight"}));
  EXPECT_EQ(names(find_op("rmsnorm_residual").outputs), (Texts{"out", "updated_res"}));
  EXPECT_EQ(names(find_op("swiglu").inputs), (Texts{"gate", "up"}));
  EXPECT_EQ(names(find_op("swiglu").outputs), Texts{"out"});
  EXPECT_EQ(names(find_op("rope").inputs),
            (Texts{"q_nope", "q_rope", "kv_nope", "k_rope", "cos", "sin"}));
  EXPECT_EQ(names(find_op("rope").outputs), (Texts{"q_out", "k_out"}));
}

TEST(Ops, CostTheBytesOfTheirPorts) {
  for (const spec::Op& op : all_ops()) {
    const Dims dims = spec::complete(op, op.suites.front().sizes.front());
    int64_t elements = 0;
    for (const auto* ports : {&op.inputs, &op.outputs})
      for (const spec::Port& port : *ports) elements += spec::element_count(port.shape(dims));
    for (Dtype dtype : spec::float_dtypes())
      EXPECT_EQ(spec::cost_of(op, dims, dtype).bytes,
                static_cast<double>(elements * spec::size_of(dtype)))
          << op.name;
    EXPECT_GT(spec::cost_of(op, dims, Dtype::float32).flops, 0);
  }
}

TEST(Launches, NeedNoMoreThreadsThanTasks) {
  const auto launch = find_op("rmsnorm").variants.front().launch;
  const auto at = [&](int64_t rows, int64_t threads, int64_t grain) {
    return launch({{"rows", rows}, {"D", 64}}, {{"THREADS", threads}, {"GRAIN", grain}});
  };
  EXPECT_EQ(at(4, 8, 16).threads, 1);
  EXPECT_EQ(at(48, 8, 16).threads, 3);
  EXPECT_EQ(at(1000, 8, 16).threads, 8);
  EXPECT_EQ(at(1000, 8, 16).grid[0], 1000);
  EXPECT_EQ(at(1000, 8, 16).group[0], 16);
  EXPECT_EQ(at(0, 8, 16).threads, 1);
}

std::string common_text(const std::string& source) {
  const size_t from = source.find("// --- elements and vectors");
  const size_t to = source.find("// --- end of the common text ---");
  EXPECT_NE(from, std::string::npos);
  EXPECT_NE(to, std::string::npos);
  return source.substr(from, to - from);
}

TEST(Sources, HoldTheSameCommonText) {
  const std::string text = common_text(kernel_source("norms/rmsnorm/rmsnorm.cpu.cpp"));
  for (const char* name : {"rmsnorm_residual", "swiglu", "rope"})
    EXPECT_EQ(common_text(kernel_source(std::string(name) + "/" + name + ".cpu.cpp")), text)
        << name;
}

TEST(Sources, IncludeNothing) {
  for (const spec::Op& op : all_ops())
    for (const spec::Variant& variant : op.variants) {
      if (variant.language != "cpp") continue;
      EXPECT_EQ(variant.source.find("#include"), std::string::npos) << op.name;
    }
}

// For the running CPU and for plainer ones, the last with vectors wider than its registers.
std::vector<std::vector<std::string>> targets() {
  std::vector<std::vector<std::string>> all = {{}, {"-march=native"}};
#if defined(__x86_64__)
  all.push_back({"-march=x86-64-v3", "-DVEC=64", "-Wno-psabi"});
#endif
  return all;
}

// By each compiler that is here.
TEST(Sources, CompileByThemselvesWithoutWarnings) {
  int compilers = 0;
  for (const char* compiler : {"g++", "clang++"}) {
    if (!base::run_process({compiler, "--version"}, 10).ok()) continue;
    ++compilers;
    for (const spec::Op& op : all_ops())
      for (const std::vector<std::string>& target : targets())
        for (Dtype dtype : spec::float_dtypes()) {
          const std::string path = std::string(MLX_KD_SOURCE_DIR) + "/mlx_kd/kernels/" + op.name +
                                   "/" + op.name + ".cpu.cpp";
          std::vector<std::string> argv = {compiler,
                                           "-c",
                                           "-O1",
                                           "-std=c++20",
                                           "-fno-math-errno",
                                           "-Wall",
                                           "-Wextra",
                                           "-Werror",
                                           path,
                                           "-o",
                                           "/dev/null",
                                           "-DSTREAM=1",
                                           "-DKD_DTYPE=" + std::to_string(static_cast<int>(dtype))};
          argv.insert(argv.end(), target.begin(), target.end());
          const base::ProcessResult result = base::run_process(argv, 60);
          EXPECT_TRUE(result.ok()) << base::list_of(argv) << "\n" << result.output;
        }
  }
  if (compilers == 0) GTEST_SKIP() << "needs g++ or clang++";
}

}  // namespace
}  // namespace mlx_kd::kernels
