// rope: what pack files and recorded sizes rely on, and mistakes that its bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;

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
      spec::complete(find_op("rope"), {{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 6}});
  EXPECT_EQ(complete.text(), "B=1,H_Q=2,D_NOPE=8,D_ROPE=6,D_OUT=14");
}

TEST(Rope, RefusesAnOddRopePart) {
  try {
    spec::complete(find_op("rope"), {{"B", 1}, {"H_Q", 2}, {"D_NOPE", 8}, {"D_ROPE", 7}});
    FAIL() << "an odd D_ROPE was taken";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find("D_ROPE is 7"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mlx_kd::kernels
