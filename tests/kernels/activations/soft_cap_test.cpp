// The gradient of soft_cap is that of its definition, and of MLX's form.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

// The float64 values of an operator's first output.
std::vector<double> values_of(const std::string& op, const std::vector<std::vector<float>>& inputs,
                              double cap) {
  std::vector<const void*> data;
  for (const auto& each : inputs) data.push_back(each.data());
  const int64_t count = static_cast<int64_t>(inputs.front().size());
  const Dims dims = spec::complete(find_op(op), {{"rows", 1}, {"D", count}});
  return find_op(op).reference(data, Dtype::float32, dims, {cap}).front().y;
}

std::vector<float> random_values(size_t count, float scale, base::Random& random) {
  std::vector<float> values(count);
  for (float& x : values) x = scale * static_cast<float>(2 * random.uniform() - 1);
  return values;
}

TEST(SoftCap, NamesItsGradientAndThePortsItTakes) {
  const spec::Op& op = find_op("soft_cap");
  ASSERT_EQ(op.gradient.by, spec::Gradient::By::op);
  const spec::Op& vjp = find_op(op.gradient.op);
  EXPECT_TRUE(vjp.doc.hidden);
  EXPECT_EQ(vjp.inputs[0].name, op.inputs[0].name);
  EXPECT_EQ(vjp.inputs[1].name, "d" + op.outputs[0].name);
  EXPECT_EQ(vjp.outputs[0].name, "d" + op.inputs[0].name);
}

TEST(SoftCap, HasTheGradientThatFiniteDifferencesGive) {
  base::Random random(3);
  for (const double cap : {0.5, 30.0, 50.0}) {
    const std::vector<float> x = random_values(200, static_cast<float>(4 * cap), random);
    const std::vector<float> dy = random_values(200, 1, random);
    const std::vector<double> gradient = values_of("soft_cap_vjp", {x, dy}, cap);
    std::vector<float> below = x, above = x;
    const float step = static_cast<float>(cap) * 0x1p-10f;
    for (float& each : below) each -= step;
    for (float& each : above) each += step;
    const std::vector<double> low = values_of("soft_cap", {below}, cap);
    const std::vector<double> high = values_of("soft_cap", {above}, cap);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(gradient[i], dy[i] * (high[i] - low[i]) / (double{above[i]} - below[i]), 1e-5);
  }
}

TEST(SoftCap, HasTheGradientThatMlxDerives) {
  base::Random random(4);
  const std::vector<float> x = random_values(300, 100, random), dy = random_values(300, 2, random);
  const mx::Stream cpu = mx::default_stream(mx::Device::cpu);
  const auto form = [&](const std::vector<mx::array>& in) {
    return find_op("soft_cap").mlx(in, std::vector<double>{30}, cpu);
  };
  const mx::array made =
      mx::vjp(form, {mx::array(x.data(), {300})}, {mx::array(dy.data(), {300})}).second.front();
  mx::eval(made);
  const std::vector<double> expected = values_of("soft_cap_vjp", {x, dy}, 30);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(made.data<float>()[i], expected[i], 2e-6 * std::fabs(dy[i])) << x[i];
}

TEST(SoftCap, RefusesACapThatIsNotAboveZero) {
  const spec::Scalar& cap = find_op("soft_cap").scalars.front();
  EXPECT_EQ(cap.why_not(30), "");
  for (const double wrong : {0.0, -1.0, std::nan(""), 1e300})
    EXPECT_NE(cap.why_not(wrong), "") << wrong;
}

spec::ModelConfig config_of(const base::Json& json) {
  return {json, "test"};
}

TEST(SoftCap, TakesItsSizesFromTheCapsOfAConfig) {
  const auto& sizes = find_op("soft_cap").of_model;
  const auto gemma = sizes(config_of({{"vocab_size", 256000},
                                      {"final_logit_softcapping", 30.0},
                                      {"attn_logit_softcapping", 50.0},
                                      {"sliding_window", 4096},
                                      {"num_attention_heads", 16}}));
  ASSERT_EQ(gemma.size(), 2u);
  EXPECT_EQ(gemma[0].name, "model");
  EXPECT_EQ(gemma[0].dims.text(), "D=256000");
  EXPECT_EQ(gemma[1].name, "scores");
  EXPECT_EQ(gemma[1].dims.text(), "D=4096");
  EXPECT_EQ(gemma[1].per_token, 16);
  EXPECT_THROW(sizes(config_of({{"vocab_size", 32000}})), base::Error);
}

}  // namespace
}  // namespace mlx_kd::kernels
