// Kernels and MLX against the float64 references.
#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

// Sizes with one row, odd rows, single elements, odd and long rows; for rope, odd parts.
std::vector<Dims> sizes_of(const spec::Op& op) {
  std::vector<Dims> sizes;
  if (op.name == "rope") {
    for (const auto& [nope, rope] : {std::pair{128, 64}, {7, 2}, {1, 6}, {65, 34}, {512, 1040}})
      for (int64_t batch : {1, 3})
        sizes.push_back({{"B", batch}, {"H_Q", 5}, {"D_NOPE", nope}, {"D_ROPE", rope}});
    return sizes;
  }
  for (int64_t d : {1, 7, 64, 2048, 2049})
    for (int64_t rows : {1, 3, 17})
      if (d < 2000 || rows < 17) sizes.push_back({{"rows", rows}, {"D", d}});
  sizes.push_back({{"rows", 2}, {"D", 33000}});
  return sizes;
}

Dims special_size(const spec::Op& op) {
  if (op.name == "rope") return {{"B", 2}, {"H_Q", 3}, {"D_NOPE", 40}, {"D_ROPE", 38}};
  return {{"rows", 7}, {"D", 75}};
}

std::vector<Problem> problems_of(const spec::Op& op, Dtype dtype) {
  std::vector<Problem> problems;
  uint64_t seed = 0;
  for (const Dims& size : sizes_of(op))
    problems.push_back(make_problem(op, dtype, size, Values(seed % 3), seed)), ++seed;
  problems.push_back(make_problem(op, dtype, special_size(op), Values::special, seed));
  return problems;
}

std::string text_of(const spec::Op& op, Dtype dtype, const spec::Setting& knobs) {
  return op.name + " " + name_of(dtype) + " " + knobs.text();
}

class EveryOp : public testing::TestWithParam<std::tuple<std::string, Dtype>> {
 protected:
  const spec::Op& op = find_op(std::get<0>(GetParam()));
  Dtype dtype = std::get<1>(GetParam());
  const spec::Variant& variant = op.variants.front();
  spec::Space space = variant.space(dtype, host_traits());
};

INSTANTIATE_TEST_SUITE_P(Kernels, EveryOp,
                         testing::Combine(testing::Values("rmsnorm", "rmsnorm_residual", "swiglu",
                                                          "rope"),
                                          testing::ValuesIn(spec::float_dtypes())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + name_of(std::get<1>(test.param));
                         });

TEST_P(EveryOp, StaysWithinItsBoundInEverySetting) {
  const std::vector<Problem> problems = problems_of(op, dtype);
  base::Random random(7);
  for (int trial = 0; trial < 12; ++trial) {
    const spec::Setting knobs = trial ? random_setting(space, random) : default_setting(space);
    const KernelFunction kernel =
        compile_kernel(variant, variant.source, macros_of(space, knobs, dtype));
    for (const Problem& problem : problems) {
      const int64_t units = variant.launch(problem.dims, knobs).grid[0];
      const Outputs outputs = run_kernel(kernel, problem, units, 1, 0);
      EXPECT_LE(bound_used(problem, outputs), 1)
          << text_of(op, dtype, knobs) << " at " << problem.dims.text();
      EXPECT_EQ(outputs, run_kernel(kernel, problem, units, 3, 16))
          << text_of(op, dtype, knobs) << " at " << problem.dims.text()
          << ": bits depend on how the work is shared or on the address";
    }
  }
}

TEST_P(EveryOp, MakesNanAndInfinityWhereMlxDoes) {
  const Problem problem = make_problem(op, dtype, special_size(op), Values::special, 3);
  const Outputs mlx = run_mlx(problem, false);
  base::Random random(11);
  for (int trial = 0; trial < 4; ++trial) {
    const spec::Setting knobs = trial ? random_setting(space, random) : default_setting(space);
    const KernelFunction kernel =
        compile_kernel(variant, variant.source, macros_of(space, knobs, dtype));
    const int64_t units = variant.launch(problem.dims, knobs).grid[0];
    EXPECT_TRUE(same_pattern(run_kernel(kernel, problem, units, 1, 0), mlx, dtype))
        << text_of(op, dtype, knobs);
  }
}

// swiglu and rope round every intermediate result in MLX's 16-bit types, which the op does not.
TEST_P(EveryOp, AllowsWhatMlxComputes) {
  const bool rounds_once = op.name == "swiglu" || op.name == "rope";
  for (const Problem& problem : problems_of(op, dtype))
    EXPECT_LE(bound_used(problem, run_mlx(problem, rounds_once)), 1) << problem.dims.text();
}

TEST_P(EveryOp, LeavesZeroUnitsAlone) {
  const KernelFunction kernel =
      compile_kernel(variant, variant.source, macros_of(space, default_setting(space), dtype));
  const Problem problem = make_problem(op, dtype, special_size(op), Values::normal, 1);
  const Outputs outputs = run_kernel(kernel, problem, 0, 1, 0);
  for (const auto& output : outputs)
    for (std::byte byte : output) ASSERT_EQ(byte, std::byte{0xff});
}

TEST(Bound, IsReachedOnlyByTheBitsOfMlxWhereTheDefaultRopeIsExact) {
  const spec::Op& op = find_op("rope");
  const spec::Variant& variant = op.variants.front();
  const spec::Space space = variant.space(Dtype::float32, host_traits());
  const spec::Setting knobs = default_setting(space);
  const Problem problem =
      make_problem(op, Dtype::float32, op.suites.front().sizes.front(), Values::normal, 5);
  const KernelFunction kernel =
      compile_kernel(variant, variant.source, macros_of(space, knobs, Dtype::float32));
  EXPECT_EQ(run_kernel(kernel, problem, variant.launch(problem.dims, knobs).grid[0], 1, 0),
            run_mlx(problem, false));
}

struct Mistake {
  std::string op;
  Dtype dtype;
  Values values;
  std::string right, wrong;  // text of the source
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.op << ": " << mistake.wrong;
}

class EveryMistake : public testing::TestWithParam<Mistake> {};

TEST_P(EveryMistake, IsRejectedByTheBound) {
  const Mistake& mistake = GetParam();
  const spec::Op& op = find_op(mistake.op);
  const spec::Variant& variant = op.variants.front();
  std::string source = variant.source;
  const size_t at = source.find(mistake.right);
  ASSERT_NE(at, std::string::npos);
  source.replace(at, mistake.right.size(), mistake.wrong);
  const spec::Dims size =
      op.name == "rope" ? op.suites.front().sizes.front() : spec::Dims{{"rows", 8}, {"D", 512}};
  const Problem problem = make_problem(op, mistake.dtype, size, mistake.values, 9);
  const auto used = [&](const std::string& text) {
    const KernelFunction kernel = compile_kernel(
        variant, text, {"-DKD_DTYPE=" + std::to_string(static_cast<int>(mistake.dtype))});
    const spec::Setting knobs = {{"THREADS", 1}, {"GRAIN", 1}};
    const int64_t units = variant.launch(problem.dims, knobs).grid[0];
    return bound_used(problem, run_kernel(kernel, problem, units, 1, 0));
  };
  EXPECT_LE(used(variant.source), 1);
  EXPECT_GT(used(source), 1);
}

const char kNearest[] = "return bits + 0x7fff + (bits >> 16 & 1);";
INSTANTIATE_TEST_SUITE_P(
    Kernels, EveryMistake,
    testing::Values(
        Mistake{"rmsnorm", Dtype::float32, Values::tiny, ") + eps;", ");"},
        Mistake{"rmsnorm", Dtype::bfloat16, Values::tiny, ") + eps;", ");"},
        Mistake{"rmsnorm", Dtype::float16, Values::normal, "1.0 / double(d)", "1.01 / double(d)"},
        Mistake{"rmsnorm_residual", Dtype::float32, Values::tiny, ") + eps;", ");"},
        Mistake{"rmsnorm_residual", Dtype::float32, Values::normal, "x.part[p] += residual.part[p]",
                "x.part[p] -= residual.part[p]"},
        Mistake{"rmsnorm_residual", Dtype::bfloat16, Values::normal, kNearest, "return bits;"},
        // Squares before rounding: seen where only the rounded sum is infinite.
        Mistake{"rmsnorm_residual", Dtype::float16, Values::special,
                "add_squares(sum, widen(stored));",
                "add_squares(sum, sum_of(load(block.x + at), load(block.residual + at)));"},
        Mistake{"swiglu", Dtype::float32, Values::normal, "one_plus_exp(-g)", "one_plus_exp(g)"},
        Mistake{"swiglu", Dtype::float32, Values::normal, "* f + 0x1.ebf9bcp-3f)",
                "* f + 0x1.ebe8p-3f)"},
        Mistake{"swiglu", Dtype::bfloat16, Values::normal, kNearest, "return bits;"},
        Mistake{"rope", Dtype::float32, Values::normal, "(int i = 0; i < VEC / 4; i += 2) sign",
                "(int i = 1; i < VEC / 4; i += 2) sign"},
        Mistake{"rope", Dtype::bfloat16, Values::normal, kNearest, "return bits;"}));

}  // namespace
}  // namespace mlx_kd::kernels
