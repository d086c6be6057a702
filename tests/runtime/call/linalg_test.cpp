// mlx_kd::linalg in C++: MLX's names, arguments and returns, on batches, with failures as NaN.
#include "mlx_kd/runtime/call/linalg.h"

#include <cmath>

#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

const mx::StreamOrDevice kCpu = mx::Device::cpu;

mx::array matrices(mx::Shape shape, uint64_t seed = 1) {
  return mx::random::normal(shape, mx::float32, 0, 1, mx::random::key(seed), kCpu);
}

mx::array eye(int n) {
  return mx::eye(n, mx::float32, kCpu);
}

mx::array product(const mx::array& a, const mx::array& b) {
  return mx::matmul(a, b, kCpu);
}

mx::array turned(const mx::array& a) {
  return mx::swapaxes(a, -1, -2, kCpu);
}

// Symmetric positive definite.
mx::array definite(int batch, int n) {
  const mx::array a = matrices({batch, n, n});
  return mx::add(product(a, turned(a)), eye(n), kCpu);
}

void expect_near(const mx::array& a, const mx::array& b, float within = 1e-3f) {
  const mx::array off = mx::max(mx::abs(mx::subtract(a, b, kCpu), kCpu), kCpu);
  EXPECT_LT(mx::array(off).item<float>(), within);
}

TEST(LinalgInCpp, FactorsAndSolvesBatches) {
  const mx::array a = definite(3, 12), b = matrices({3, 12, 2}, 5);
  const auto [q, r] = linalg::qr(a, kCpu);
  expect_near(product(q, r), a);
  const auto usv = linalg::svd(a, kCpu);
  expect_near(product(mx::multiply(usv[0], mx::expand_dims(usv[1], -2, kCpu), kCpu), usv[2]), a);
  expect_near(linalg::svd(a, false, kCpu).at(0), usv[1]);
  const auto [w, v] = linalg::eigh(a, "L", kCpu);
  expect_near(product(a, v), mx::multiply(v, mx::expand_dims(w, -2, kCpu), kCpu));
  expect_near(linalg::eigvalsh(a, "U", kCpu), w);
  const mx::array l = linalg::cholesky(a, false, kCpu), u = linalg::cholesky(a, true, kCpu);
  expect_near(product(l, turned(l)), a);
  expect_near(u, turned(l));
  expect_near(product(a, linalg::solve(a, b, kCpu)), b);
  expect_near(product(l, linalg::solve_triangular(l, b, false, kCpu)), b);
  const mx::array one = mx::broadcast_to(eye(12), {3, 12, 12}, kCpu);
  expect_near(product(a, linalg::inv(a, kCpu)), one);
  expect_near(product(a, linalg::pinv(a, kCpu)), one);
  expect_near(product(a, linalg::cholesky_inv(l, false, kCpu)), one);
  expect_near(product(l, linalg::tri_inv(l, false, kCpu)), one);
}

TEST(LinalgInCpp, LuReturnsWhatMlxDoes) {
  const mx::array a = matrices({7, 5});
  const auto ours = linalg::lu(a, kCpu), of_mlx = mx::linalg::lu(a, kCpu);
  ASSERT_EQ(ours.size(), 3u);
  EXPECT_TRUE(mx::array_equal(ours[0], of_mlx[0], kCpu).item<bool>());
  expect_near(ours[1], of_mlx[1]);
  expect_near(ours[2], of_mlx[2]);
  expect_near(linalg::lu_factor(a, kCpu).first, mx::linalg::lu_factor(a, kCpu).first);
}

TEST(LinalgInCpp, DeterminantsAndOneRightSide) {
  const mx::array a = definite(2, 6);
  const auto [sign, logarithm] = linalg::slogdet(a, kCpu);
  const mx::array determinant = linalg::det(a, kCpu);
  expect_near(mx::divide(mx::multiply(sign, mx::exp(logarithm, kCpu), kCpu), determinant, kCpu),
              mx::ones({2}, mx::float32, kCpu));
  EXPECT_EQ(linalg::det(mx::zeros({3, 3}, mx::float32, kCpu), kCpu).item<float>(), 0.0f);
  const mx::array x = linalg::solve(a, mx::ones({2, 6}, mx::float32, kCpu), kCpu);
  EXPECT_EQ(x.shape(), (mx::Shape{2, 6}));
}

TEST(LinalgInCpp, AMatrixThatFailsIsNaNAlone) {
  const mx::array good = definite(1, 4), bad = mx::zeros({1, 4, 4}, mx::float32, kCpu);
  mx::array inverse = linalg::inv(mx::concatenate({good, bad}, 0, kCpu), kCpu);
  inverse.eval();
  EXPECT_TRUE(std::isfinite(inverse.data<float>()[0]));
  EXPECT_TRUE(std::isnan(inverse.data<float>()[16]));
}

TEST(LinalgInCpp, OtherTypesAndShapes) {
  const mx::array half = mx::astype(definite(1, 4), mx::bfloat16, kCpu);
  EXPECT_EQ(linalg::inv(half, kCpu).dtype(), mx::bfloat16);
  EXPECT_THROW(linalg::inv(mx::ones({2, 3}, mx::float32, kCpu), kCpu), std::invalid_argument);
  EXPECT_THROW(linalg::solve(eye(3), mx::ones({4}, mx::float32, kCpu), kCpu),
               std::invalid_argument);
  EXPECT_THROW(linalg::eigh(eye(3), "X", kCpu), std::invalid_argument);
  EXPECT_THROW(linalg::qr(mx::array(1.0f), kCpu), std::invalid_argument);
  EXPECT_NEAR(linalg::norm(eye(4), std::nullopt, false, kCpu).item<float>(), 2.0f, 1e-6f);
}

}  // namespace
}  // namespace mlx_kd::runtime
