// rope: what pack files and recorded sizes rely on, and mistakes that its bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

TEST(Rope, HasSuitesOfBothFormsOfTheLatentCache) {
  EXPECT_EQ(sizes_in("rope", "glm_flash_small"),
            (Texts{"B=1,H_Q=32,D_NOPE=128,D_ROPE=64", "B=2,H_Q=32,D_NOPE=128,D_ROPE=64",
                   "B=4,H_Q=32,D_NOPE=128,D_ROPE=64"}));
  EXPECT_EQ(sizes_in("rope", "glm_flash_decode"),
            (Texts{"B=1,H_Q=24,D_NOPE=128,D_ROPE=64", "B=1,H_Q=32,D_NOPE=128,D_ROPE=64",
                   "B=1,H_Q=40,D_NOPE=128,D_ROPE=64"}));
  EXPECT_EQ(sizes_in("rope", "glm_mla_decode"),
            (Texts{"B=1,H_Q=20,D_NOPE=512,D_ROPE=64", "B=2,H_Q=20,D_NOPE=512,D_ROPE=64",
                   "B=4,H_Q=20,D_NOPE=512,D_ROPE=64"}));
  EXPECT_EQ(find_op("rope").suites.front().name, "glm_flash_small") << "the default";
}

TEST(Rope, CallsItsPortsAsPacksDo) {
  EXPECT_EQ(names_of(find_op("rope").inputs),
            (Texts{"q_nope", "q_rope", "kv_nope", "k_rope", "cos", "sin"}));
  EXPECT_EQ(names_of(find_op("rope").outputs), (Texts{"q_out", "k_out"}));
}

TEST(Rope, CompletesSizesToTheSignatureOfAPin) {
  const Dims complete =
      find_op("rope").complete({{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 6}});
  EXPECT_EQ(complete.text(), "B=1,H_Q=2,D_NOPE=8,D_ROPE=6,D_OUT=14");
}

TEST(Rope, RefusesAnOddRopePart) {
  try {
    find_op("rope").complete({{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 7}});
    FAIL() << "an odd D_ROPE was taken";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find("D_ROPE is 7"), std::string::npos) << error.what();
  }
}

TEST(Rope, CostsTheBytesOfItsPorts) {
  expect_bytes_of_ports("rope");
}

TEST(Rope, HasTheBitsOfMlxByDefault) {
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

TEST(Rope, RejectsMistakes) {
  const std::vector<Mistake> mistakes = {
      {"rope", Dtype::float32, Values::normal, "(int i = 0; i < VEC / 4; i += 2) sign",
       "(int i = 1; i < VEC / 4; i += 2) sign"},
      {"rope", Dtype::bfloat16, Values::normal, "return bits + 0x7fff + (bits >> 16 & 1);",
       "return bits;"}};
  for (const Mistake& mistake : mistakes)
    expect_rejected(mistake, find_op("rope").suites.front().sizes.front());
}

}  // namespace
}  // namespace mlx_kd::kernels
