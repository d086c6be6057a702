// The norms: what pack files and recorded sizes rely on, and mistakes that their bound rejects.
#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dtype;

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
  EXPECT_EQ(find_op("rmsnorm").complete({{"rows", 3}, {"D", 5}}).text(), "rows=3,D=5");
}

TEST(Norms, CostTheBytesOfTheirPorts) {
  expect_bytes_of_ports("rmsnorm");
  expect_bytes_of_ports("rmsnorm_residual");
}

TEST(Norms, RejectMistakes) {
  const char nearest[] = "return bits + 0x7fff + (bits >> 16 & 1);";
  const std::vector<Mistake> mistakes = {
      {"rmsnorm", Dtype::float32, Values::tiny, ") + eps;", ");"},
      {"rmsnorm", Dtype::bfloat16, Values::tiny, ") + eps;", ");"},
      {"rmsnorm", Dtype::float16, Values::normal, "1.0 / double(d)", "1.01 / double(d)"},
      {"rmsnorm_residual", Dtype::float32, Values::tiny, ") + eps;", ");"},
      {"rmsnorm_residual", Dtype::float32, Values::normal, "x.part[p] += residual.part[p]",
       "x.part[p] -= residual.part[p]"},
      {"rmsnorm_residual", Dtype::bfloat16, Values::normal, nearest, "return bits;"},
      // Squares before rounding: seen where only the rounded sum is infinite.
      {"rmsnorm_residual", Dtype::float16, Values::special, "add_squares(sum, widen(stored));",
       "add_squares(sum, sum_of(load(block.x + at), load(block.residual + at)));"}};
  for (const Mistake& mistake : mistakes) expect_rejected(mistake, {{"rows", 8}, {"D", 512}});
}

}  // namespace
}  // namespace mlx_kd::kernels
