// swiglu: what pack files and recorded sizes rely on, and mistakes that its bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dtype;

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
  EXPECT_EQ(find_op("swiglu").complete({{"D", 5}, {"rows", 3}}).text(), "rows=3,D=5,N=15");
}

TEST(Swiglu, CostsTheBytesOfItsPorts) {
  expect_bytes_of_ports("swiglu");
}

TEST(Swiglu, RejectsMistakes) {
  const std::vector<Mistake> mistakes = {
      {"swiglu", Dtype::float32, Values::normal, "one_plus_exp(-g)", "one_plus_exp(g)"},
      {"swiglu", Dtype::float32, Values::normal, "* f + 0x1.ebf9bcp-3f)", "* f + 0x1.ebe8p-3f)"},
      {"swiglu", Dtype::bfloat16, Values::normal, "return bits + 0x7fff + (bits >> 16 & 1);",
       "return bits;"}};
  for (const Mistake& mistake : mistakes) expect_rejected(mistake, {{"rows", 8}, {"D", 512}});
}

}  // namespace
}  // namespace mlx_kd::kernels
