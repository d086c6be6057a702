// The norms: what pack files and recorded sizes rely on, and mistakes that their bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

const Texts kSmall = {"rows=128,D=2048", "rows=256,D=2048", "rows=512,D=2048", "rows=1024,D=2048"};
const Texts kDecode = {"rows=1,D=2048", "rows=2,D=2048", "rows=4,D=2048"};

TEST(Norms, HaveTheSuitesOfTheFormats) {
  for (const char* name : {"rmsnorm", "rmsnorm_residual"}) {
    EXPECT_EQ(sizes_in(name, "glm_flash_small"), kSmall);
    EXPECT_EQ(sizes_in(name, "glm_flash_decode"), kDecode);
    EXPECT_EQ(find_op(name).suites.front().name, "glm_flash_small") << "the default";
  }
  for (const char* suite : {"qwen30b_decode", "lfm2_decode"}) {
    EXPECT_EQ(sizes_in("rmsnorm", suite), Texts{});
    EXPECT_EQ(sizes_in("rmsnorm_residual", suite), kDecode);
  }
}

TEST(Norms, CallTheirPortsAsPacksDo) {
  const spec::Op& rmsnorm = find_op("rmsnorm");
  EXPECT_EQ(names_of(rmsnorm.inputs), (Texts{"inp", "weight"}));
  EXPECT_EQ(names_of(rmsnorm.outputs), Texts{"out"});
  const spec::Op& residual = find_op("rmsnorm_residual");
  EXPECT_EQ(names_of(residual.inputs), (Texts{"inp", "residual", "weight"}));
  EXPECT_EQ(names_of(residual.outputs), (Texts{"out", "updated_res"}));
}

TEST(Norms, CompleteSizesToTheSignatureOfAPin) {
  EXPECT_EQ(spec::complete(find_op("rmsnorm"), {{"rows", 3}, {"D", 5}}).text(), "rows=3,D=5");
}

}  // namespace
}  // namespace mlx_kd::kernels
