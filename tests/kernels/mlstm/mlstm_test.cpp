// The float64 references of mLSTM: the gradient is that of finite differences, steps one after the
// other give what the parallel form gives, and infinite gates do what they are said to do.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/mlstm/head64.h"
#include "mlx_kd/kernels/mlstm/reference.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr float kInfinite = std::numeric_limits<float>::infinity();
constexpr double kStep = 0x1p-10;

// Arrays by port; all float32.
using Floats = std::vector<std::vector<float>>;

struct Problem {
  Dims dims;
  double eps;
  Floats inputs;      // of mlstm_chunkwise
  Floats cotangents;  // of its outputs

  std::vector<const void*> pointers(bool with_cotangents) const {
    std::vector<const void*> all;
    for (const auto& each : inputs) all.push_back(each.data());
    for (const auto& each : cotangents)
      if (with_cotangents) all.push_back(each.data());
    return all;
  }
  std::vector<spec::Reference64> forward() const {
    return mlstm::forward64(pointers(false), Dtype::float32, dims, {eps});
  }
  std::vector<spec::Reference64> backward() const {
    return mlstm::backward64(pointers(true), Dtype::float32, dims, {eps});
  }
  double loss() const {
    double sum = 0;
    const auto results = forward();
    for (size_t port = 0; port < results.size(); ++port)
      for (size_t i = 0; i < results[port].y.size(); ++i)
        sum += results[port].y[i] * static_cast<double>(cotangents[port][i]);
    return sum;
  }
};

// Multiples of 2^-8, to which a step can be added without rounding.
std::vector<float> random_floats(int64_t count, double size, double middle, base::Random& random) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(std::round(static_cast<float>(middle + size * random.normal()) * 256) / 256);
  return values;
}

Problem random_problem(const Dims& dims, double eps, double middle_of_i, base::Random& random) {
  Problem p{dims, eps, {}, {}};
  const spec::Op& op = find_op("mlstm_chunkwise");
  for (const spec::Port& port : op.inputs)
    p.inputs.push_back(random_floats(spec::element_count(port.shape(dims)), 1,
                                     port.name == "i" || port.name == "m0" ? middle_of_i : 0,
                                     random));
  for (const spec::Port& port : op.outputs)
    p.cotangents.push_back(random_floats(spec::element_count(port.shape(dims)), 1, 0, random));
  return p;
}

// Whether no step comes near a place where the gradient jumps.
bool is_smooth(const Problem& p) {
  const auto head = mlstm::head64(p.pointers(false), Dtype::float32, p.dims, {p.eps}, 0);
  const auto gates = mlstm::gates64(head.i, head.f, head.m0, head.sigmoid);
  const auto rows = mlstm::rows64(head, gates);
  for (size_t t = 0; t < gates.u.size(); ++t)
    if ((!head.sigmoid && gates.margin[t] < 0.1) ||
        std::fabs(std::fabs(rows.sums[t].value) - gates.floor[t]) < 0.2 * gates.floor[t])
      return false;
  return true;
}

// By differences over one and two steps, without the error of the third derivative.
double difference(Problem p, size_t port, size_t at) {
  const float x = p.inputs[port][at];
  const auto loss_at = [&](double steps) {
    p.inputs[port][at] = x + static_cast<float>(steps * kStep);
    return p.loss();
  };
  const double near = (loss_at(1) - loss_at(-1)) / (2 * kStep);
  const double far = (loss_at(2) - loss_at(-2)) / (4 * kStep);
  return (4 * near - far) / 3;
}

Dims small(int64_t siging, int64_t normalize) {
  Dims dims = mlstm::size_of(1, 5, 3, 4);
  dims.set("siging", siging), dims.set("normalize", normalize), dims.set("has_state", 1);
  return dims;
}

void expect_gradient(const Problem& p) {
  const auto gradient = p.backward();
  for (size_t port = 0; port < p.inputs.size(); ++port)
    for (size_t at = 0; at < p.inputs[port].size(); ++at) {
      const double found = gradient[port].y[at], wanted = difference(p, port, at);
      EXPECT_NEAR(found, wanted, 1e-6 * std::max(1.0, std::fabs(wanted)))
          << p.dims.text() << " eps " << p.eps << " port " << port << " at " << at;
    }
}

TEST(MlstmReference, HasTheGradientThatFiniteDifferencesGive) {
  base::Random random(5);
  int tried = 0, smooth = 0;
  for (const auto& [siging, normalize] : {std::pair{0, 1}, {1, 1}, {1, 0}})
    for (const double eps : {1e-6, 0.3})
      for (const double middle : {0.0, 12.0})
        for (int found = 0; found < 2; ++tried) {
          ASSERT_LT(tried, 20000);
          const Problem p =
              random_problem(small(siging, normalize), eps, siging ? 0 : middle, random);
          if (!is_smooth(p)) continue;
          ++found, ++smooth;
          expect_gradient(p);
        }
  EXPECT_EQ(smooth, 24);
}

// With the normaliser held constant the gradient of v alone is the same.
TEST(MlstmReference, TakesTheNormaliserForAConstantIfAsked) {
  base::Random random(6);
  Problem p = random_problem(small(0, 1), 1e-6, 0, random);
  const auto whole = p.backward();
  p.dims.set("normalizer_grad", 0);
  const auto constant = p.backward();
  EXPECT_EQ(whole[2].y, constant[2].y);
  EXPECT_EQ(whole[5].y, constant[5].y);
  EXPECT_NE(whole[0].y, constant[0].y);
  EXPECT_NE(whole[1].y, constant[1].y);
  EXPECT_NE(whole[3].y, constant[3].y);
}

// One token of a problem by mlstm_step, whose results replace the state.
std::vector<double> step(const Problem& p, int64_t t, Floats& state) {
  const int64_t qk = p.dims.at("DHQK"), hv = p.dims.at("DHHV");
  const auto row = [&](size_t port, int64_t width) {
    const auto from = p.inputs[port].begin() + t * width;
    return std::vector<float>(from, from + width);
  };
  const Floats token = {row(0, qk), row(1, qk), row(2, hv), row(3, 1), row(4, 1)};
  std::vector<const void*> inputs;
  for (const auto& each : token) inputs.push_back(each.data());
  for (const auto& each : state) inputs.push_back(each.data());
  const spec::Op& op = find_op("mlstm_step");
  const Dims dims = spec::complete(op, {{"heads", 1},
                                        {"DHQK", qk},
                                        {"DHHV", hv},
                                        {"siging", p.dims.at("siging")},
                                        {"normalize", p.dims.at("normalize")}});
  const auto made = op.reference(inputs, Dtype::float32, dims, {p.eps});
  for (size_t i = 0; i < state.size(); ++i)
    state[i].assign(made[i + 1].y.begin(), made[i + 1].y.end());
  return made[0].y;
}

TEST(MlstmReference, GivesWhatStepsGiveWithInfiniteGatesToo) {
  base::Random random(7);
  for (const auto& [siging, normalize] : {std::pair{0, 1}, {1, 1}, {1, 0}})
    for (int infinite = 0; infinite < 5; ++infinite) {
      Problem p = random_problem(small(siging, normalize), 1e-6, 0, random);
      if (infinite & 1) p.inputs[4][2] = -kInfinite;
      if (infinite & 2) p.inputs[3][2] = -kInfinite;
      if (infinite == 4) p.inputs[3][1] = kInfinite;
      Floats state = {p.inputs[5], p.inputs[6], p.inputs[7]};
      const auto whole = p.forward();
      std::vector<double> rows;
      for (int64_t t = 0; t < p.dims.at("S"); ++t)
        for (const double h : step(p, t, state)) rows.push_back(h);
      for (size_t i = 0; i < rows.size(); ++i)
        EXPECT_NEAR(rows[i], whole[0].y[i], 2e-5 * std::max(1.0, whole[0].terms[i])) << infinite;
      for (size_t port = 0; port < 3; ++port)
        for (size_t i = 0; i < state[port].size(); ++i) {
          if (!std::isfinite(state[port][i])) continue;
          EXPECT_NEAR(static_cast<double>(state[port][i]), whole[port + 1].y[i],
                      1e-5 * std::max(1.0, whole[port + 1].terms[i]))
              << infinite;
        }
    }
}

// What the token at 2 leaves behind.
TEST(MlstmReference, GivesInfiniteGatesTheirMeaning) {
  base::Random random(8);
  Problem p = random_problem(small(0, 1), 1e-6, 0, random);
  p.dims.set("S", 3);
  for (auto& cotangent : p.cotangents) cotangent.assign(cotangent.size(), 0);
  p.inputs[4][2] = p.inputs[3][2] = -kInfinite;
  const auto nothing = p.forward();
  for (const double c : nothing[1].y) EXPECT_EQ(c, 0);
  for (size_t e = 0; e < 4; ++e) EXPECT_EQ(nothing[0].y[2 * 4 + e], 0);
  p.dims.set("S", 2);
  EXPECT_EQ(p.forward()[3].y[0], nothing[3].y[0]);  // m as it was
  p.dims.set("S", 3);
  p.inputs[4][2] = 0, p.inputs[3][2] = kInfinite;
  const auto only = p.forward();
  for (size_t d = 0; d < 3; ++d)
    for (size_t e = 0; e < 4; ++e)
      EXPECT_EQ(only[1].y[d * 4 + e],
                static_cast<double>(p.inputs[1][6 + d]) * static_cast<double>(p.inputs[2][8 + e]));
  EXPECT_TRUE(std::isinf(only[3].y[0]));
}

// |r| is exp(-m), so that dr may be 0 or not: the bound of dq says so, in a type of small range
// too.
TEST(MlstmReference, LeavesOpenWhereTheNormaliserTurns) {
  const Dims dims = mlstm::size_of(1, 1, 1, 1);
  const uint16_t one = 0x3c00, thousand = 0x63d0, ten = 0x4900;  // float16
  const float zero = 0;
  const std::vector<const void*> inputs = {&one,    &one,    &thousand, &zero, &zero, nullptr,
                                           nullptr, nullptr, &ten,      &zero, &zero, &zero};
  const auto made = mlstm::backward64(inputs, Dtype::float16, dims, {0});
  EXPECT_EQ(made[0].y[0], 10000);
  EXPECT_TRUE(std::isfinite(made[0].terms[0]));
  EXPECT_GT(made[0].terms[0] * mlstm::kAccumulated * 0x1p-24, 65504);
}

// What claims are measured against computes the same.
void expect_composition(const std::string& name, const Problem& p, bool is_gradient) {
  namespace mx = mlx::core;
  const spec::Op& op = find_op(name);
  std::vector<std::vector<float>> all = p.inputs;
  if (is_gradient) all.insert(all.end(), p.cotangents.begin(), p.cotangents.end());
  spec::Op::Arrays inputs;
  for (size_t i = 0; i < all.size(); ++i) {
    const spec::Shape shape = op.inputs[i].shape(p.dims);
    inputs.push_back(mx::array(all[i].data(), mx::Shape(shape.begin(), shape.end())));
  }
  const mx::Stream cpu = mx::default_stream(mx::Device::cpu);
  const auto made = op.composition(inputs, spec::numbers_of(op, {p.eps}, p.dims), cpu);
  const auto wanted = is_gradient ? p.backward() : p.forward();
  for (size_t port = 0; port < wanted.size(); ++port) {
    const mx::array found = mx::contiguous(made[port], false, cpu);
    mx::eval(found);
    ASSERT_EQ(found.size(), wanted[port].y.size()) << name << " " << port;
    for (size_t i = 0; i < wanted[port].y.size(); ++i)
      EXPECT_NEAR(static_cast<double>(found.data<float>()[i]), wanted[port].y[i],
                  1e-4 * std::max(1.0, wanted[port].terms[i]))
          << p.dims.text() << " " << name << " " << port;
  }
}

TEST(MlstmReference, IsWhatTheCompositionsCompute) {
  base::Random random(9);
  for (const auto& [siging, normalize] : {std::pair{0, 1}, {1, 1}, {1, 0}})
    for (const int64_t normalizer_grad : {1, 0}) {
      Problem p = random_problem(small(siging, normalize), 1e-3, 0, random);
      p.dims.set("normalizer_grad", normalizer_grad);
      expect_composition("mlstm_chunkwise", p, false);
      expect_composition("mlstm_chunkwise_vjp", p, true);
    }
}

TEST(Mlstm, GivesAThreadAPartOfAHeadWhereHeadsAreFew) {
  const spec::Op& op = find_op("mlstm_chunkwise");
  spec::DeviceTraits traits;
  traits.cores = 2, traits.vector_bytes = 32;
  const spec::Variant& variant = *variant_in(op, "cpp");
  const spec::Setting knobs = spec::default_setting(variant.space(Dtype::float32, traits));
  ASSERT_EQ(knobs.at("THREADS"), 2);
  const auto threads = [&](int64_t heads, int64_t hv) {
    const Dims dims = spec::complete(op, mlstm::size_of(heads, 64, 16, hv));
    return spec::stages_of(variant, dims, knobs).front().launch.threads;
  };
  EXPECT_EQ(threads(1, 512), 2);
  EXPECT_EQ(threads(2, 64), 2);
  EXPECT_EQ(threads(1, 511), 1);  // a part would be too narrow
}

// Scratch memory of the gradient over the bytes of inputs, outputs and their gradients.
TEST(Mlstm, KeepsLittleForTheGradientInBfloat16OnCuda) {
  const spec::Op& op = find_op("mlstm_chunkwise_vjp");
  const spec::Variant& variant = *variant_in(op, "cuda");
  const spec::Setting knobs = spec::default_setting(variant.space(Dtype::bfloat16, {}));
  const Dims dims = spec::complete(op, mlstm::size_of(16, 8192, 128, 256));
  int64_t scratch = 0;
  for (const int64_t bytes : spec::scratch_of(variant, Dtype::bfloat16, dims, knobs))
    scratch += bytes;
  constexpr double kArrays = 2.0 * 16 * 8192 * (2 * (2 * 128 + 2 * 256) + 2 * 4);
  EXPECT_LT(static_cast<double>(scratch), 0.4 * kArrays);
}

TEST(Mlstm, RefusesSizesThatMakeNoSense) {
  const spec::Op& op = find_op("mlstm_chunkwise");
  const auto refuses = [&](const char* name, int64_t value) {
    Dims dims = mlstm::size_of(2, 8, 4, 4);
    dims.set(name, value);
    EXPECT_THROW(spec::complete(op, dims), base::Error) << name;
  };
  refuses("DHQK", 4097);
  refuses("DHHV", 5000);
  refuses("siging", 2);
  refuses("normalize", 0);
  refuses("chunk", 1025);
}

}  // namespace
}  // namespace mlx_kd::kernels
