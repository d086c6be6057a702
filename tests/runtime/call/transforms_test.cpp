// Gradients, vmap, jvp, compile and export of pinned operations.
#include "mlx/compile.h"
#include "mlx/export.h"
#include "mlx/primitives.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class Transforms : public Pinned {
 protected:
  void SetUp() override { pin({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42)}); }
  mx::array x = mx::random::normal({2, 8}), w = mx::random::normal({8});
};

using Arrays = std::vector<mx::array>;

Arrays pinned(const Arrays& in) {
  return {rmsnorm(in[0], in[1])};
}
Arrays plain(const Arrays& in) {
  return {mx::fast::rms_norm(in[0], in[1], 1e-6f)};
}

TEST_F(Transforms, GradientsAreThoseOfMlxsOperator) {
  const mx::array cotangent = mx::random::normal({2, 8});
  const auto [y, grads] = mx::vjp(pinned, Arrays{x, w}, Arrays{cotangent});
  const auto expected = mx::vjp(plain, Arrays{x, w}, Arrays{cotangent}).second;
  EXPECT_EQ(first(y[0]), 42);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(same_bits(grads[i], expected[i]));
  const auto loss = [](const mx::array& a) { return mx::sum(rmsnorm(a, all_ones({8}))); };
  EXPECT_EQ(mx::grad(loss)(x).shape(), x.shape());
}

TEST_F(Transforms, TangentsAreThoseOfMlxsOperator) {
  const Arrays tangents = {all_ones({2, 8}), all_ones({8})};
  const auto found = mx::jvp(pinned, Arrays{x, w}, tangents).second;
  EXPECT_TRUE(same_bits(found[0], mx::jvp(plain, Arrays{x, w}, tangents).second[0]));
}

TEST_F(Transforms, VmapIsThatOfMlxsOperator) {
  const mx::array many = mx::random::normal({3, 2, 8});
  const auto found = mx::vmap(pinned, {0, -1}, {0})({many, w});
  EXPECT_TRUE(same_bits(found[0], mx::fast::rms_norm(many, w, 1e-6f)));
}

TEST_F(Transforms, CompileKeepsThePin) {
  const auto compiled = mx::compile([](const Arrays& in) -> Arrays {
    return {mx::add(rmsnorm(mx::exp(in[0]), in[1]), mx::array(1.0f))};
  });
  EXPECT_EQ(first(compiled({x, w})[0]), 43);
  EXPECT_EQ(first(compiled({x, w})[0]), 43);
}

TEST_F(Transforms, AShapelessCompileRunsMlxsOperatorAtEverySize) {
  const auto compiled = mx::compile(pinned, true);
  EXPECT_TRUE(same_bits(compiled({x, w})[0], plain({x, w})[0]));
  const mx::array more = mx::random::normal({5, 8});
  EXPECT_TRUE(same_bits(compiled({more, w})[0], plain({more, w})[0]));
}

TEST_F(Transforms, AnExportedFileHoldsMlxsOperators) {
  const std::string file = folder_ / "norm.mlxfn";
  mx::export_function(file, pinned, Arrays{x, w});
  const auto imported = mx::import_function(file);
  EXPECT_TRUE(same_bits(imported({x, w})[0], plain({x, w})[0]));
  EXPECT_EQ(first(rmsnorm(x, w)), 42);
}

TEST_F(Transforms, TheResultIsComputedOnTheStreamThatWasGiven) {
  const mx::Stream own = mx::new_stream(mx::Device::cpu);
  const mx::array y = rmsnorm(x, w, 1e-6, own);
  EXPECT_EQ(y.primitive().stream(), own);
  EXPECT_EQ(first(y), 42);
  EXPECT_EQ(rmsnorm(all_ones({3, 8}), w, 1e-6, own).primitive().stream(), own);
}

}  // namespace
}  // namespace mlx_kd::runtime
