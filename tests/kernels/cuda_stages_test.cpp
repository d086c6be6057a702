// How operators in CUDA C++ are launched, for every setting and size: what no GPU is needed for.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {
namespace {

constexpr int64_t kSharedOfABlock = 227 << 10, kStatic = 2 << 10;  // sm_90; the latter is generous

std::vector<spec::Dims> sizes_to_launch(const spec::Op& op) {
  std::vector<spec::Dims> sizes = edge_sizes(op);
  for (const spec::Suite& suite : op.suites)
    for (const spec::Dims& size : suite.sizes) sizes.push_back(spec::complete(op, size));
  return sizes;
}

std::string where(const spec::Op& op, const spec::Dims& size, const spec::Setting& knobs) {
  return op.name + " at " + size.text() + " with " + knobs.text();
}

void expect_launches(const spec::Op& op, const spec::Variant& variant, const spec::Dims& size,
                     const spec::Setting& knobs) {
  for (const spec::Stage& stage : spec::stages_of(variant, size, knobs)) {
    const spec::Launch& launch = stage.launch;
    EXPECT_NE(variant.source.find(variant.func_name), std::string::npos);
    EXPECT_EQ(stage.func_name.rfind(variant.func_name, 0), 0u) << where(op, size, knobs);
    EXPECT_LE(launch.shared_bytes, kSharedOfABlock - kStatic) << where(op, size, knobs);
    int64_t cluster = 1;
    for (size_t d = 0; d < 3; ++d) {
      EXPECT_GE(launch.grid[d], 1) << where(op, size, knobs);
      EXPECT_EQ(launch.grid[d] / launch.group[d] % launch.cluster[d], 0) << where(op, size, knobs);
      cluster *= launch.cluster[d];
    }
    EXPECT_LE(cluster, 16) << where(op, size, knobs);
  }
}

class CudaStages : public testing::TestWithParam<std::string> {};

TEST_P(CudaStages, FitTheChipAtEverySizeAndSetting) {
  const spec::Op& op = find_op(GetParam());
  const std::vector<spec::Dims> sizes = sizes_to_launch(op);
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != "cuda") continue;
    each_valid(variant.space(spec::Dtype::bfloat16, {}), [&](const spec::Setting& knobs) {
      for (const spec::Dims& size : sizes) expect_launches(op, variant, size, knobs);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, CudaStages, testing::ValuesIn(ops_in("cuda")),
                         [](const auto& named) { return named.param; });

spec::Dims product(const spec::Op& op, int64_t n, int64_t k, int64_t bits, int64_t group,
                   int64_t mode) {
  return spec::complete(op, {{"M", 1},
                             {"N", n},
                             {"K", k},
                             {"bits", bits},
                             {"group", group},
                             {"mode", mode},
                             {"has_norm", 1},
                             {"has_bias", 0},
                             {"has_residual", 1}});
}

std::string function_of(int64_t k, int64_t bits, int64_t group, int64_t mode) {
  const spec::Op& op = find_op("qmatvec");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::bfloat16, {}));
  return spec::stages_of(variant, product(op, 100, k, bits, group, mode), knobs)[0].func_name;
}

// Scales are read in pairs, codes 32 at a time.
TEST(CudaProducts, ChooseTheKernelOfTheFormatOrTheOneOfAny) {
  EXPECT_EQ(function_of(4096, 4, 64, 0), "mlx_kd_qmatvec_4_64");
  EXPECT_EQ(function_of(4096, 8, 128, 0), "mlx_kd_qmatvec_8_128");
  EXPECT_EQ(function_of(4096, 4, 32, 1), "mlx_kd_qmatvec_mxfp4");
  EXPECT_EQ(function_of(4096, 4, 16, 3), "mlx_kd_qmatvec_nvfp4");
  const std::string any = "mlx_kd_qmatvec";
  EXPECT_EQ(function_of(4096, 3, 64, 0), any);
  EXPECT_EQ(function_of(4096, 8, 32, 2), any);  // mxfp8
  EXPECT_EQ(function_of(2880, 4, 64, 0), any);  // 45 groups
  EXPECT_EQ(function_of(48, 4, 16, 3), any);    // half of 32 codes at the end
}

// A block of a large head has more tiles than one of a small product, never more than fit.
TEST(CudaProducts, ShareTheTilesAmongTheBlocksOfTheKnob) {
  const spec::Op& op = find_op("qmatvec");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::bfloat16, {}));
  const auto launch_of = [&](int64_t n) {
    return spec::stages_of(variant, product(op, n, 4096, 4, 64, 0), knobs)[0].launch;
  };
  const auto blocks = [](const spec::Launch& launch) { return launch.grid[0] / launch.group[0]; };
  EXPECT_EQ(blocks(launch_of(16)), 1);
  EXPECT_EQ(blocks(launch_of(128256)), knobs.at("BLOCKS"));
  EXPECT_GT(launch_of(128256).shared_bytes, launch_of(4096).shared_bytes);
  EXPECT_GT(blocks(launch_of(16 << 20)), knobs.at("BLOCKS"));
}

// What follows the operator's name in the stages of a call of many tokens.
std::vector<std::string> stages_of_experts(const std::string& name, int64_t k, int64_t bits,
                                           int64_t group, int64_t mode) {
  const spec::Op& op = find_op(name);
  spec::Dims dims = {{"M", 64}, {"A", 2}, {"E", 4}, {"N", 72}, {"K", k}};
  if (bits > 0) dims.set("bits", bits), dims.set("group", group), dims.set("mode", mode);
  dims.set("per_pair", 0), dims.set("has_bias", 0);
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::bfloat16, {}));
  std::vector<std::string> names;
  for (const spec::Stage& stage : spec::stages_of(variant, spec::complete(op, dims), knobs))
    names.push_back(stage.func_name.substr(variant.func_name.size()));
  return names;
}

TEST(CudaExperts, OfManyTokensRunOnTensorCoresWhereRowsAndFormatsAllow) {
  using Names = std::vector<std::string>;
  const Names any = {"", "_any"};
  EXPECT_EQ(stages_of_experts("gather_qgemm", 256, 4, 64, 0), (Names{"", "_rows", "_4_64"}));
  EXPECT_EQ(stages_of_experts("gather_qgemm", 256, 4, 128, 0), (Names{"", "_rows", "_4_128"}));
  EXPECT_EQ(stages_of_experts("gather_qgemm", 256, 4, 32, 1), (Names{"", "_rows", "_mxfp4"}));
  EXPECT_EQ(stages_of_experts("gather_qgemm", 192, 4, 64, 0), any);
  EXPECT_EQ(stages_of_experts("gather_qgemm", 256, 8, 64, 0), any);
  EXPECT_EQ(stages_of_experts("gather_qgemm", 256, 4, 16, 3), any);
  EXPECT_EQ(stages_of_experts("gather_gemm", 200, 0, 0, 0), (Names{"", "_rows", "_tiles"}));
  EXPECT_EQ(stages_of_experts("gather_gemm", 100, 0, 0, 0), any);
}

TEST(CudaAttention, SplitsKeysAmongBlocksOfAClusterWhileThereAreFewHeads) {
  const spec::Op& op = find_op("attention");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::bfloat16, {}));
  const auto stage_of = [&](int64_t batch, int64_t keys, int64_t width) {
    const spec::Dims dims = {{"S", keys},   {"B", batch},    {"Hq", 32},       {"Hk", 8},
                             {"M", 1},      {"Dk", width},   {"Dv", width},    {"causal", 0},
                             {"window", 0}, {"has_mask", 0}, {"has_sinks", 0}, {"has_bias", 0}};
    return spec::stages_of(variant, spec::complete(op, dims), knobs)[0];
  };
  EXPECT_EQ(stage_of(1, 4096, 128).launch.cluster[0], 16);
  EXPECT_EQ(stage_of(1, 40, 128).launch.cluster[0], 2);
  EXPECT_EQ(stage_of(64, 4096, 128).launch.cluster[0], 1);
  EXPECT_EQ(stage_of(1, 4096, 128).func_name, "mlx_kd_attention_128");
  EXPECT_EQ(stage_of(1, 4096, 96).func_name, "mlx_kd_attention");
}

spec::Dims matrices(int64_t m, int64_t n, int64_t k, int64_t transpose_a, int64_t transpose_b,
                    int64_t batch) {
  return spec::complete(find_op("matmul"), {{"batch", batch},
                                            {"M", m},
                                            {"N", n},
                                            {"K", k},
                                            {"transpose_a", transpose_a},
                                            {"transpose_b", transpose_b},
                                            {"activation", 0},
                                            {"has_c", 0},
                                            {"has_bias", 0}});
}

// The functions of the first variant that is meant for a size.
std::vector<std::string> stages_of_matmul(const spec::Dims& dims) {
  for (const spec::Variant& variant : find_op("matmul").variants) {
    if (variant.language != "cuda" || (variant.suits && !variant.suits(dims))) continue;
    const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::bfloat16, {}));
    std::vector<std::string> names;
    for (const spec::Stage& stage : spec::stages_of(variant, dims, knobs))
      names.push_back(stage.func_name.substr(std::string("mlx_kd_matmul").size()));
    return names;
  }
  return {};
}

TEST(CudaMatmul, CopiesRowsThatBulkCopiesDoNotTakeAndCutsLongSums) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(stages_of_matmul(matrices(4096, 4096, 4096, 0, 1, 1)), Names{"_nt"});
  EXPECT_EQ(stages_of_matmul(matrices(512, 520, 1001, 1, 0, 1)), Names{"_tn"});
  EXPECT_EQ(stages_of_matmul(matrices(4095, 4097, 4099, 0, 0, 1)), (Names{"_rows", "_nn"}));
  EXPECT_EQ(stages_of_matmul(matrices(256, 256, 200, 0, 0, 3)), (Names{"_rows", "_nn"}));
  EXPECT_EQ(stages_of_matmul(matrices(256, 256, 200, 0, 1, 3)), Names{"_nt"});
  EXPECT_EQ(stages_of_matmul(matrices(32, 32, 1000000, 1, 0, 1)), (Names{"_parts", "_parts_sums"}));
  EXPECT_EQ(stages_of_matmul(matrices(64, 64, 64, 0, 0, 256)), Names{"_parts"});
  EXPECT_EQ(stages_of_matmul(matrices(4, 4, 4, 0, 0, 100000)), Names{"_small"});
}

// Copies of a matrix whose rows lie along K are as long as whole tiles; rows of one that lies
// across fill up the last tile of K.
TEST(CudaMatmul, HasRoomForCopies) {
  const spec::Op& op = find_op("matmul");
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != "cuda" || variant.name != "tiles") continue;
    const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::float16, {}));
    const auto bytes =
        spec::scratch_of(variant, spec::Dtype::float16, matrices(100, 256, 70, 0, 0, 3), knobs);
    EXPECT_EQ(bytes, (std::vector<int64_t>{3 * 100 * 128 * 2, 3 * 128 * 256 * 2}));
  }
}

// The last stage has the operator's name alone.
std::vector<std::string> stages_of_search(int64_t m, int64_t n, int64_t width, int64_t k) {
  const spec::Op& op = find_op("l2_topk");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::float32, {}));
  std::vector<std::string> names;
  for (const spec::Stage& stage :
       spec::stages_of(variant, {{"M", m}, {"N", n}, {"D", width}, {"k", k}}, knobs))
    names.push_back(stage.func_name == variant.func_name
                        ? "finish"
                        : stage.func_name.substr(variant.func_name.size() + 1));
  return names;
}

// Blocks of items of codes have room for a table; there is one order of the probes of few queries.
TEST(CudaVectors, OfListsOrderProbesInOneBlockWhereThereAreFew) {
  const spec::Op& op = find_op("ivfpq_topk");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(spec::Dtype::float32, {}));
  const auto stages_of = [&](int64_t m) {
    return spec::stages_of(variant,
                           {{"M", m},
                            {"N", 1000000},
                            {"D", 128},
                            {"S", 16},
                            {"P", 16},
                            {"L", 1024},
                            {"k", 10},
                            {"inner", 0}},
                           knobs);
  };
  EXPECT_EQ(stages_of(64).size(), 3u);
  EXPECT_EQ(stages_of(4096).size(), 6u);
  EXPECT_EQ(stages_of(64)[1].launch.shared_bytes, 4 * (16 * 257 + 128));
}

TEST(CudaVectors, AreChosenBySamplesWhereThereAreManyAndInFloat64WhereNoTileFits) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(stages_of_search(1, 1000000, 128, 10), (Names{"samples8", "scan8", "finish"}));
  EXPECT_EQ(stages_of_search(1, 1000000, 128, 100),
            (Names{"samples8", "limits", "scan8", "finish"}));
  EXPECT_EQ(stages_of_search(64, 1000000, 128, 10),
            (Names{"samples64", "limits", "scan64", "finish"}));
  EXPECT_EQ(stages_of_search(64, 1000000, 257, 10).front(), "samples8");
  EXPECT_EQ(stages_of_search(64, 1024, 128, 16), (Names{"scan64", "finish"}));
  EXPECT_EQ(stages_of_search(1, 1000, 4608, 10), (Names{"scan8", "finish"}));
  EXPECT_EQ(stages_of_search(1, 1000, 4609, 10), (Names{"rows", "finish"}));
}

}  // namespace
}  // namespace mlx_kd::kernels
