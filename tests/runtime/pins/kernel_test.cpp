// The library's own kernels as pins: every op, type and layout keeps close to MLX.
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/runtime/pins/operators.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

using Arrays = std::vector<mx::array>;

// The op's first CPU kernel with its default setting, as a run that chose it would pin it.
packs::Entry default_entry(const spec::Op& op, spec::Dtype dtype, const spec::Dims& given) {
  const spec::Dims dims = spec::complete(op, given);
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != "cpp") continue;
    const spec::Space space = variant.space(dtype, this_cpu().traits);
    packs::Measured measured{dims, {}, "test", base::Json::object(), base::Json::object()};
    measured.metrics.kernel_us = 1;
    for (const auto& number : op.scalars) measured.runtime_inputs[number.name] = number.proved;
    return packs::make_entry(
        spec::make_candidate(op, variant, dtype, spec::default_setting(space), space, dims),
        measured, this_cpu(), mx::version());
  }
  throw std::runtime_error(op.name + " has no CPU kernel");
}

class Kernels : public Pinned, public testing::WithParamInterface<spec::Dtype> {
 protected:
  static mx::Dtype type() {
    return GetParam() == spec::Dtype::float32   ? mx::float32
           : GetParam() == spec::Dtype::float16 ? mx::float16
                                                : mx::bfloat16;
  }
  static mx::array normal(const mx::Shape& shape) {
    return mx::astype(mx::random::normal(shape), type());
  }
  void pin_op(const char* op, const spec::Dims& dims) {
    pin({default_entry(kernels::find_op(op), GetParam(), dims)});
    ASSERT_EQ(stats().pins.size(), 1u) << to_json(stats());
  }
  // Two roundings of the type, and float32's own where sums are added in another order.
  static void expect_close(const mx::array& found, const mx::array& expected) {
    const double u = spec::unit_roundoff(GetParam());
    EXPECT_EQ(found.shape(), expected.shape());
    EXPECT_EQ(found.dtype(), expected.dtype());
    EXPECT_TRUE(mx::allclose(mx::astype(found, mx::float32), mx::astype(expected, mx::float32),
                             4 * u + 1e-6, 4 * u + 1e-6)
                    .item<bool>());
  }
  // The call by its pin, and by MLX with pins switched off.
  static void compare(const char* op, const Arrays& inputs,
                      const std::map<std::string, double>& params = {}) {
    const uint64_t before = stats().hits;
    const Arrays found = call(op, inputs, params);
    mx::eval(found);
    EXPECT_EQ(stats().hits, before + 1) << to_json(explain(op, inputs, params));
    disable();
    const Arrays expected = call(op, inputs, params);
    for (size_t i = 0; i < found.size(); ++i) expect_close(found[i], expected[i]);
    enable();
  }
};

TEST_P(Kernels, RmsnormKeepsCloseToMlxInAnyLayoutAndWithAnyEps) {
  pin_op("rmsnorm", {{"rows", 6}, {"D", 96}});
  const mx::array w = normal({96});
  compare("rmsnorm", {normal({6, 96}), w});
  compare("rmsnorm", {normal({2, 3, 96}), w}, {{"eps", 0.5}});
  compare("rmsnorm", {mx::transpose(normal({96, 6})), w});
  compare("rmsnorm", {mx::slice(normal({6, 192}), {0, 0}, {6, 192}, {1, 2}), w});
  compare("rmsnorm", {mx::broadcast_to(normal({1, 96}), {6, 96}), w});
}

TEST_P(Kernels, RmsnormResidualKeepsCloseToMlx) {
  pin_op("rmsnorm_residual", {{"rows", 4}, {"D", 96}});
  compare("rmsnorm_residual", {normal({2, 2, 96}), normal({2, 2, 96}), normal({96})});
  compare("rmsnorm_residual", {normal({4, 96}), mx::transpose(normal({96, 4})), normal({96})},
          {{"eps", 1e-5}});
}

TEST_P(Kernels, SwigluKeepsCloseToMlx) {
  pin_op("swiglu", {{"rows", 3}, {"D", 200}});
  compare("swiglu", {normal({3, 200}), normal({3, 200})});
  compare("swiglu", {normal({1, 3, 200}), normal({1, 3, 200})});
}

TEST_P(Kernels, TheRopePackKeepsCloseToMlx) {
  pin_op("rope", {{"B", 2}, {"H_Q", 5}, {"D_NOPE", 64}, {"D_ROPE", 32}});
  const mx::array angles = mx::random::uniform(mx::array(-3.0f), mx::array(3.0f), {16});
  const mx::array cos = mx::astype(mx::cos(angles), type()),
                  sin = mx::astype(mx::sin(angles), type());
  const Arrays heads = {normal({2, 5, 1, 64}), normal({2, 5, 1, 32}), normal({2, 1, 1, 64}),
                        normal({2, 1, 1, 32})};
  compare("rope", {heads[0], heads[1], heads[2], heads[3], cos, sin});
  compare("rope", {heads[0], heads[1], heads[2], heads[3], mx::reshape(cos, {1, 1, 16}),
                   mx::reshape(sin, {1, 16})});
}

INSTANTIATE_TEST_SUITE_P(Types, Kernels, testing::ValuesIn(spec::float_dtypes()),
                         [](const auto& type) { return spec::name_of(type.param); });

}  // namespace
}  // namespace mlx_kd::runtime
