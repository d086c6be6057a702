// Calls of products with arrays that do not go together, and without rows.
#include "mlx_kd/runtime/call/call.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime::products_calls {
namespace {

using Arrays = std::vector<mx::array>;

mx::array floats(const mx::Shape& shape) {
  return mx::zeros(shape);
}
mx::array codes(int rows, int words) {
  return mx::zeros({rows, words}, mx::uint32);
}
const mx::array& none() {
  static const auto& absent = *new mx::array(mx::zeros({0}));
  return absent;
}

class Products : public Pinned {
 protected:
  // The message, or "" if the call gave results.
  std::string said(const std::string& op, const Arrays& inputs) const {
    try {
      mx::eval(call(op, inputs));
      return "";
    } catch (const std::exception& error) {
      return error.what();
    }
  }
  // qmatvec of x (2, 128) and 4 bits in groups of 64, but for one input.
  std::string said_with(size_t input, const mx::array& array) const {
    Arrays inputs = {floats({2, 128}), codes(8, 16), floats({8, 2}), floats({8, 2}),
                     none(),           none(),       none()};
    inputs[input] = array;
    return said("qmatvec", inputs);
  }
};

TEST_F(Products, OfSoundArraysGiveResults) {
  EXPECT_EQ(said_with(4, floats({128})), "");
  EXPECT_EQ(said_with(5, floats({8})), "");
  EXPECT_EQ(said_with(6, floats({2, 8})), "");
}

TEST_F(Products, NameTheArrayThatDoesNotFit) {
  EXPECT_EQ(said_with(0, floats({})), "[qmatvec] x has shape (): it must have at least one axis");
  EXPECT_EQ(said_with(0, floats({2, 96})),
            "[qmatvec] w has shape (8, 16): it must be (N, K bits / 32) with K = 96");
  EXPECT_EQ(said_with(1, codes(8, 15)),
            "[qmatvec] w has shape (8, 15): it must be (N, K bits / 32) with K = 128");
  EXPECT_EQ(said_with(1, floats({8, 16})), "[qmatvec] w has type float32: give uint32");
  EXPECT_EQ(
      said_with(2, floats({7, 2})),
      "[qmatvec] scales has shape (7, 2): it must be (N, K / group), as w is (8, 16) and x has "
      "128 columns");
  EXPECT_EQ(said_with(2, floats({8, 4})),
            "[qmatvec] biases has shape (8, 2): it must be (8, 4), as the scales are");
  EXPECT_EQ(said_with(3, floats({8, 1})),
            "[qmatvec] biases has shape (8, 1): it must be (8, 2), as the scales are");
  EXPECT_EQ(said_with(3, none()),
            "[qmatvec] biases has shape (0): it must be (8, 2), as the scales are");
  EXPECT_EQ(said_with(4, floats({64})),
            "[qmatvec] norm has shape (64): it must be (128), or left out");
  EXPECT_EQ(said_with(5, floats({2, 8})),
            "[qmatvec] bias has shape (2, 8): it must be (8), or left out");
  EXPECT_EQ(said_with(6, floats({8})),
            "[qmatvec] residual has shape (8): it must be (2, 8), or left out");
}

TEST_F(Products, RefuseFormatsThatMlxLacks) {
  const mx::array x = floats({1, 128}), no = none();
  const auto bytes = [](const mx::Shape& shape) { return mx::zeros(shape, mx::uint8); };
  EXPECT_EQ(said("qmatvec", {x, codes(8, 28), floats({8, 2}), floats({8, 2}), no, no, no}),
            "[qmatvec] w has 7 bits in groups of 64: an affine format has 2, 3, 4, 5, 6 or 8 bits");
  EXPECT_EQ(said("qmatvec", {x, codes(8, 16), floats({8, 8}), floats({8, 8}), no, no, no}),
            "[qmatvec] w has 4 bits in groups of 16: an affine format has groups of 32, 64 or 128");
  EXPECT_EQ(said("qmatvec", {x, codes(8, 16), bytes({8, 2}), no, no, no, no}),
            "[qmatvec] w has 4 bits in groups of 64: mxfp4 has 4 bits in groups of 32");
  EXPECT_EQ(said("qmatvec", {x, codes(8, 32), bytes({8, 8}), no, no, no, no}),
            "[qmatvec] w has 8 bits in groups of 16: nvfp4 has 4 bits in groups of 16");
  EXPECT_EQ(said("qmatvec", {x, codes(8, 16), bytes({8, 4}), floats({8, 4}), no, no, no}),
            "[qmatvec] biases has shape (8, 4): mxfp4 has no biases: leave it out");
}

TEST_F(Products, TakeMatricesOfOneFormat) {
  const mx::array x = floats({1, 128}), no = none(), s = floats({8, 2}), four = codes(8, 16);
  const mx::array eight = codes(8, 32);
  EXPECT_EQ(said("qmatvec_qkv", {x, four, s, s, eight, s, s, four, s, s, no, no, no, no}),
            "[qmatvec_qkv] wk has shape (8, 32): all matrices of a call must have one format");
  EXPECT_EQ(said("qmatvec_qkv",
                 {x, four, s, s, four, s, s, four, s, s, no, floats({8}), floats({8}), no}),
            "[qmatvec_qkv] bias_v has shape (0): give all three biases or none");
  EXPECT_EQ(
      said("qmatvec_gate_up", {x, four, s, s, codes(6, 16), floats({6, 2}), floats({6, 2}), no}),
      "[qmatvec_gate_up] w_up has shape (6, 16): it must have as many rows as w_gate");
  EXPECT_EQ(
      said("matvec_qkv", {x, floats({8, 128}), floats({8, 64}), floats({8, 128}), no, no, no, no}),
      "[matvec_qkv] wk has shape (8, 64): it must be (N, 128), as x says");
  EXPECT_EQ(said("matvec", {x, floats({128}), no, no, no}),
            "[matvec] w has shape (128): it must have two axes");
}

// Whether anybody looks at the call or not.
TEST_F(Products, NameTheArrayOfAnotherType) {
  const auto half = [](const mx::Shape& shape) { return mx::zeros(shape, mx::float16); };
  const mx::array x = floats({2, 128}), s = floats({8, 2}), no = none(), w = codes(8, 16);
  const auto stack = [](const mx::array& one) { return mx::expand_dims(one, 0); };
  const mx::array rows = floats({2, 1, 128}), ids = mx::zeros({2, 3}, mx::uint32);
  const mx::array e = stack(w), es = stack(s), eh = stack(half({8, 2}));
  for (const bool watched : {false, true}) {
    if (watched) configure({.default_kernels = std::vector<std::string>{"qmatvec"}});
    for (const char* op : {"qmatvec", "qgemm"}) {
      EXPECT_EQ(said(op, {x, w, half({8, 2}), half({8, 2}), no, no, no}),
                std::string("[") + op + "] scales has type float16: give float32");
      EXPECT_EQ(said(op, {half({2, 128}), w, s, s, no, no, no}),
                std::string("[") + op + "] scales has type float32: give float16");
    }
    EXPECT_EQ(said("qmatvec_gate_up", {x, w, s, s, w, half({8, 2}), s, no}),
              "[qmatvec_gate_up] scales_up has type float16: give float32");
    EXPECT_EQ(said("qmatvec_qkv", {x, w, s, s, w, half({8, 2}), s, w, s, s, no, no, no, no}),
              "[qmatvec_qkv] scales_k has type float16: give float32");
    EXPECT_EQ(said("gather_qmatvec", {rows, ids, e, eh, es, no}),
              "[gather_qmatvec] scales has type float16: give float32");
    EXPECT_EQ(said("gather_qmatvec_gate_up", {rows, ids, e, es, es, e, eh, es, no, no}),
              "[gather_qmatvec_gate_up] scales_up has type float16: give float32");
  }
}

// MLX's form of mixed or wide types has all that was given.
TEST_F(Products, OfMixedTypesKeepTheirNormBiasAndResidual) {
  const mx::array x = mx::random::normal({2, 16}), norm = mx::random::normal({16});
  const mx::array w = mx::astype(mx::random::normal({8, 16}), mx::float16);
  const mx::array bias = mx::random::normal({8}), residual = mx::random::normal({2, 8});
  const mx::array plain = mx::matmul(mx::fast::rms_norm(x, norm, 1e-6f), mx::transpose(w));
  const mx::array wanted = mx::add(mx::add(plain, bias), residual);
  const mx::array made = call("matvec", {x, w, norm, bias, residual}, {{"eps", 1e-6}})[0];
  EXPECT_TRUE(mx::allclose(made, wanted, 1e-5, 1e-5).item<bool>());
}

// MLX divides by 0 where weights are quantised: it is not asked.
TEST_F(Products, OfNoRowsAreEmpty) {
  const mx::array absent = none();
  for (const bool own : {false, true}) {
    if (own) configure({.default_kernels = std::vector<std::string>{"qmatvec", "matvec_qkv"}});
    const auto y = call("qmatvec", {floats({3, 0, 128}), codes(8, 16), floats({8, 2}),
                                    floats({8, 2}), floats({128}), absent, absent});
    mx::eval(y);
    EXPECT_EQ(y[0].shape(), (mx::Shape{3, 0, 8})) << own;
    const auto qkv = call("matvec_qkv", {floats({0, 16}), floats({8, 16}), floats({4, 16}),
                                         floats({2, 16}), absent, absent, absent, absent});
    mx::eval(qkv);
    EXPECT_EQ(qkv[2].shape(), (mx::Shape{0, 2})) << own;
    const auto no_keys =
        call("qmatvec_qkv", {floats({2, 128}), codes(8, 16), floats({8, 2}), floats({8, 2}),
                             codes(0, 16), floats({0, 2}), floats({0, 2}), codes(8, 16),
                             floats({8, 2}), floats({8, 2}), absent, absent, absent, absent});
    mx::eval(no_keys);
    EXPECT_EQ(no_keys[0].shape(), (mx::Shape{2, 8})) << own;
    EXPECT_EQ(no_keys[1].shape(), (mx::Shape{2, 0})) << own;
  }
}

}  // namespace
}  // namespace mlx_kd::runtime::products_calls
