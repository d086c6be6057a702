// swiglu: what pack files and recorded sizes rely on, and mistakes that its bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

TEST(Swiglu, HasTheSuitesOfTheFormats) {
  EXPECT_EQ(sizes_in("swiglu", "glm_flash_small"),
            (Texts{"rows=128,D=1536", "rows=256,D=1536", "rows=512,D=1536", "rows=1024,D=1536"}));
  EXPECT_EQ(sizes_in("swiglu", "glm_flash_decode"),
            (Texts{"rows=1,D=1536", "rows=2,D=1536", "rows=4,D=1536"}));
  EXPECT_EQ(sizes_in("swiglu", "qwen30b_decode"),
            (Texts{"rows=1,D=2048", "rows=2,D=2048", "rows=4,D=2048"}));
  EXPECT_EQ(sizes_in("swiglu", "lfm2_decode"),
            (Texts{"rows=1,D=7168", "rows=2,D=7168", "rows=4,D=7168"}));
  EXPECT_EQ(find_op("swiglu").suites.front().name, "glm_flash_small") << "the default";
}

TEST(Swiglu, CallsItsPortsAsPacksDo) {
  EXPECT_EQ(names_of(find_op("swiglu").inputs), (Texts{"gate", "up"}));
  EXPECT_EQ(names_of(find_op("swiglu").outputs), Texts{"out"});
}

TEST(Swiglu, CompletesSizesToTheSignatureOfAPin) {
  EXPECT_EQ(spec::complete(find_op("swiglu"), {{"D", 5}, {"rows", 3}}).text(), "rows=3,D=5,N=15");
}

}  // namespace
}  // namespace mlx_kd::kernels
