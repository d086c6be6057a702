// CPU kernels of every operator, and MLX, against the float64 references.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dtype;

std::vector<Problem> problems_of(const spec::Op& op, Dtype dtype) {
  std::vector<Problem> problems;
  uint64_t seed = 0;
  for (const spec::Dims& size : edge_sizes(op))
    problems.push_back(make_problem(op, dtype, size, Values(seed % 3), seed)), ++seed;
  problems.push_back(make_problem(op, dtype, special_size(op), Values::special, seed));
  return problems;
}

class EveryOp : public testing::TestWithParam<std::tuple<std::string, Dtype>> {
 protected:
  KernelFunction compile(const spec::Setting& knobs) const {
    return compile_kernel(variant, variant.source, macros_of(space, knobs, dtype));
  }
  spec::Setting setting(int trial, base::Random& random) const {
    return trial ? random_setting(space, random) : default_setting(space);
  }
  std::string text_of(const spec::Setting& knobs) const {
    return op.name + " " + name_of(dtype) + " " + knobs.text();
  }

  const spec::Op& op = find_op(std::get<0>(GetParam()));
  Dtype dtype = std::get<1>(GetParam());
  const spec::Variant& variant = *variant_in(op, "cpp");
  spec::Space space = variant.space(dtype, host_traits());
};

INSTANTIATE_TEST_SUITE_P(Kernels, EveryOp,
                         testing::Combine(testing::ValuesIn(ops_in("cpp")),
                                          testing::ValuesIn(spec::all_dtypes())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + name_of(std::get<1>(test.param));
                         });

TEST_P(EveryOp, StaysWithinItsBoundInEverySetting) {
  const std::vector<Problem> problems = problems_of(op, dtype);
  base::Random random(7);
  for (int trial = 0; trial < 12; ++trial) {
    const spec::Setting knobs = setting(trial, random);
    const KernelFunction kernel = compile(knobs);
    for (const Problem& problem : problems) {
      const int64_t units = variant.launch(problem.dims, knobs).grid[0];
      const Outputs outputs = run_kernel(kernel, problem, units, 1, 0);
      EXPECT_LE(bound_used(problem, outputs), 1) << text_of(knobs) << " at " << problem.dims.text();
      EXPECT_EQ(outputs, run_kernel(kernel, problem, units, 3, 16))
          << text_of(knobs) << " at " << problem.dims.text()
          << ": bits depend on how the work is shared or on the address";
    }
  }
}

TEST_P(EveryOp, MakesNanAndInfinityWhereMlxDoes) {
  const Problem problem = make_problem(op, dtype, special_size(op), Values::special, 3);
  const Outputs mlx = run_mlx(problem, false);
  base::Random random(11);
  for (int trial = 0; trial < 4; ++trial) {
    const spec::Setting knobs = setting(trial, random);
    const int64_t units = variant.launch(problem.dims, knobs).grid[0];
    EXPECT_TRUE(same_pattern(run_kernel(compile(knobs), problem, units, 1, 0), mlx, dtype))
        << text_of(knobs);
  }
}

// MLX may round intermediate results to 16 bits that the op does not round: then its result in
// float32, rounded once, is within the bound.
TEST_P(EveryOp, AllowsWhatMlxComputes) {
  double in_type = 0, in_float32 = 0;
  for (const Problem& problem : problems_of(op, dtype)) {
    in_type = std::max(in_type, bound_used(problem, run_mlx(problem, false)));
    in_float32 = std::max(in_float32, bound_used(problem, run_mlx(problem, true)));
  }
  EXPECT_LE(std::min(in_type, in_float32), 1);
}

TEST_P(EveryOp, LeavesZeroUnitsAlone) {
  const Problem problem = make_problem(op, dtype, special_size(op), Values::normal, 1);
  const Outputs outputs = run_kernel(compile(default_setting(space)), problem, 0, 1, 0);
  for (const auto& output : outputs)
    for (std::byte byte : output) ASSERT_EQ(byte, std::byte{0xff});
}

}  // namespace
}  // namespace mlx_kd::kernels
