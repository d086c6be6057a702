#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class Ops : public Pinned {};

mx::array swiglu_in_mlx(const mx::array& gate, const mx::array& up) {
  return mx::multiply(mx::multiply(gate, mx::sigmoid(gate)), up);
}

mx::array normal(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
  return mx::astype(mx::random::normal(shape), dtype);
}

TEST_F(Ops, WithoutAPinTheBitsAreMlxsForAnyRankAndType) {
  for (const mx::Dtype dtype : {mx::float32, mx::float16, mx::bfloat16})
    for (const mx::Shape& shape : {mx::Shape{16}, {3, 16}, {2, 3, 16}, {2, 1, 3, 16}}) {
      const mx::array x = normal(shape, dtype), r = normal(shape, dtype), w = normal({16}, dtype);
      const mx::array norm = mx::fast::rms_norm(x, w, 1e-5f);
      EXPECT_TRUE(same_bits(rmsnorm(x, w, 1e-5), norm));
      const auto [y, updated] = rmsnorm_residual(x, r, w, 1e-5);
      EXPECT_TRUE(same_bits(updated, mx::add(x, r)));
      EXPECT_TRUE(same_bits(y, mx::fast::rms_norm(mx::add(x, r), w, 1e-5f)));
      EXPECT_TRUE(same_bits(swiglu(x, r), swiglu_in_mlx(x, r)));
    }
}

TEST_F(Ops, TheRopePackRotatesInterleavedPairsAndAppendsThem) {
  const mx::array q_nope = normal({2, 3, 1, 4}), q_rope = normal({2, 3, 1, 6}),
                  kv_nope = normal({2, 1, 1, 4}), k_rope = normal({2, 1, 1, 6});
  const mx::array angle = mx::array({0.1f, 0.2f, 0.3f});
  const auto [q, k] =
      rope_concat_qk_decode_pos(q_nope, q_rope, kv_nope, k_rope, mx::cos(angle), mx::sin(angle));
  EXPECT_EQ(q.shape(), (mx::Shape{2, 3, 1, 10}));
  EXPECT_EQ(k.shape(), (mx::Shape{2, 1, 1, 10}));
  EXPECT_TRUE(same_bits(mx::slice(q, {0, 0, 0, 0}, {2, 3, 1, 4}), q_nope));
  const mx::array a = mx::slice(k_rope, {0, 0, 0, 0}, {2, 1, 1, 1}),
                  b = mx::slice(k_rope, {0, 0, 0, 1}, {2, 1, 1, 2});
  const mx::array turned = mx::subtract(mx::multiply(a, mx::array(std::cos(0.1f))),
                                        mx::multiply(b, mx::array(std::sin(0.1f))));
  EXPECT_TRUE(mx::allclose(mx::slice(k, {0, 0, 0, 4}, {2, 1, 1, 5}), turned).item<bool>());
  const auto [q2, k2] = rope_concat_qk_decode_pos(q_nope, q_rope, kv_nope, k_rope,
                                                  mx::reshape(mx::cos(angle), {1, 1, 3}),
                                                  mx::reshape(mx::sin(angle), {1, 3}));
  EXPECT_TRUE(same_bits(q, q2));
  EXPECT_TRUE(same_bits(k, k2));
}

TEST_F(Ops, MixedAndOtherTypesGiveWhatMlxGives) {
  const mx::array x = normal({3, 16}, mx::float16), w = normal({16});
  EXPECT_TRUE(same_bits(rmsnorm(x, w), mx::fast::rms_norm(x, w, 1e-6f)));
  EXPECT_EQ(rmsnorm(x, w).dtype(), mx::float32);
  EXPECT_EQ(swiglu(x, normal({3, 16}, mx::bfloat16)).dtype(), mx::float32);
}

TEST_F(Ops, EmptyArraysGiveEmptyArrays) {
  EXPECT_EQ(rmsnorm(all_ones({0, 8}), all_ones({8})).shape(), (mx::Shape{0, 8}));
  EXPECT_EQ(swiglu(all_ones({2, 0, 8}), all_ones({2, 0, 8})).shape(), (mx::Shape{2, 0, 8}));
  mx::eval(rmsnorm(all_ones({0, 8}), all_ones({8})));
}

TEST_F(Ops, CallRunsAnyOpByItsNameWithItsNumbers) {
  const mx::array x = normal({3, 16}), w = normal({16});
  EXPECT_TRUE(same_bits(call("rmsnorm", {x, w}, {{"eps", 1e-5}})[0], rmsnorm(x, w, 1e-5)));
  EXPECT_TRUE(same_bits(call("rmsnorm", {x, w})[0], rmsnorm(x, w, 1e-6)));
  for (const std::string& name : op_names()) EXPECT_NE(name, "");
  EXPECT_EQ(call("rmsnorm_residual", {x, x, w}).size(), 2u);
}

TEST_F(Ops, WhatIsRefusedNamesTheShapes) {
  const mx::array x = all_ones({2, 8}), w = all_ones({8});
  const auto norm = [&](const mx::array& a, const mx::array& b, double eps = 1e-6) {
    return refusal([&] { rmsnorm(a, b, eps); });
  };
  expect_part(norm(x, all_ones({5})),
              "[rmsnorm] weight has shape (5): it must be (8), as inp has shape (2, 8)");
  expect_part(norm(mx::array(1.0f), w), "inp has shape (): it must have at least 1 axes");
  expect_part(norm(x, all_ones({1, 8})), "weight has shape (1, 8): it must have 1 axes");
  expect_part(norm(x, w, 0), "eps is 0");
  expect_part(norm(x, w, -1), "above 0");
  expect_part(norm(x, w, std::nan("")), "eps is nan");
  expect_part(refusal([&] {
                rmsnorm_residual(all_ones({2, 3, 8}), all_ones({6, 8}), w);
              }),
              "residual has shape (6, 8): it must be (2, 3, 8), as inp has shape (2, 3, 8)");
  expect_part(refusal([&] {
                swiglu(x, all_ones({2, 7}));
              }),
              "up has shape (2, 7): it must be (2, 8)");
}

TEST_F(Ops, RopeRefusesOddWidthsSeveralPositionsAndSeveralKeyHeads) {
  const auto pack = [](const mx::Shape& q, const mx::Shape& k, int rope, const mx::array& angles) {
    mx::Shape qr = q, kr = k;
    qr.back() = kr.back() = rope;
    return refusal([&] {
      rope_concat_qk_decode_pos(all_ones(q), all_ones(qr), all_ones(k), all_ones(kr), angles,
                                angles);
    });
  };
  expect_part(pack({1, 4, 1, 8}, {1, 1, 1, 8}, 5, all_ones({2})), "D_ROPE must be a multiple of 2");
  expect_part(pack({1, 4, 2, 8}, {1, 1, 2, 8}, 4, all_ones({2})),
              "q_nope has shape (1, 4, 2, 8): it must be (1, 4, 1, 8)");
  expect_part(pack({1, 4, 1, 8}, {1, 2, 1, 8}, 4, all_ones({2})),
              "kv_nope has shape (1, 2, 1, 8): it must be (1, 1, 1, 8)");
  expect_part(pack({1, 4, 1, 8}, {1, 1, 1, 8}, 4, all_ones({3, 2})), "cos has shape (3, 2)");
  expect_part(pack({4, 1, 8}, {1, 1, 8}, 4, all_ones({2})),
              "q_nope has shape (4, 1, 8): it must have 4 axes");
}

TEST_F(Ops, CallRefusesUnknownOpsNumbersAndCounts) {
  const mx::array x = all_ones({2, 8}), w = all_ones({8});
  expect_part(refusal([&] { call("rmsnorms", {x, w}); }), "there is no op 'rmsnorms'");
  expect_part(refusal([&] { call("rmsnorm", {x}); }),
              "1 inputs were given: it takes 2, inp, weight");
  expect_part(refusal([&] { call("rmsnorm", {x, w}, {{"scale", 1}}); }), "no number 'scale'");
  expect_part(refusal([&] { call("rmsnorm", {x, w}, {{"eps", -1}}); }), "eps is -1");
  EXPECT_EQ(stats().calls, 0u);
}

}  // namespace
}  // namespace mlx_kd::runtime
