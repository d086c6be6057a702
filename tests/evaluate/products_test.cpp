// Products of few rows with weights that MLX quantised, against MLX; what is rounded when.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>
#include <cstring>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal/metal_device.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/support/metal_stand_in.h"

namespace mlx_kd::evaluate {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

// The kernel of an op in a language, with its default knobs; `right` in its text becomes `wrong`.
struct Text {
  std::string language, right = "", wrong = "";
};

// "cpp": the CPU; "metal": the executor; "bodies": what the device metal hands to metal_kernel, on
// the executor.
std::shared_ptr<const devices::Device> device_of(const std::string& language) {
  if (language == "bodies") return devices::metal::make_metal_device(tests::stand_in_host());
  return devices::open_device(language == "metal" ? "simt" : "cpu");
}

// What it makes of arrays in memory, as float32.
std::vector<float> result_of(const std::string& name, const Text& text, Dtype t, const Dims& given,
                             const std::vector<const void*>& inputs) {
  const spec::Op& op = kernels::find_op(name);
  const Dims dims = spec::complete(op, given);
  const auto device = device_of(text.language);
  const std::string language = text.language == "bodies" ? "metal" : text.language;
  std::vector<float> made;
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != language || !variant.approximate.empty()) continue;
    const spec::Space space = variant.space(t, device->id().traits);
    const spec::Setting knobs = spec::default_setting(space);
    spec::Candidate candidate = spec::make_candidate(op, variant, t, knobs, space, dims);
    if (const size_t at = candidate.source.find(text.right); at != std::string::npos)
      candidate.source.replace(at, text.right.size(), text.wrong);
    const devices::Artifact artifact = device->compile(candidate, 60);
    EXPECT_TRUE(artifact.ok) << artifact.error;
    if (!artifact.ok) return {};
    std::vector<std::byte> y(spec::arrays_of(op.outputs, t, dims)[0].bytes());
    const devices::Call call =
        devices::make_call(op, variant, t, dims, knobs, spec::default_scalars(op));
    device->load(artifact, candidate)->launch(inputs, {y.data()}, call);
    const int64_t count = spec::element_count(op.outputs[0].shape(dims));
    for (int64_t i = 0; i < count; ++i) made.push_back(spec::load_element(y.data(), i, t));
  }
  return made;
}

// --- against MLX ------------------------------------------------------------------------------

struct Format {
  const char* mode;
  int bits, group, number;  // of the mode
};

std::vector<Format> all_formats() {
  std::vector<Format> formats = {{"mxfp4", 4, 32, 1}, {"mxfp8", 8, 32, 2}, {"nvfp4", 4, 16, 3}};
  for (const int bits : {2, 3, 4, 5, 6, 8})
    for (const int group : {32, 64, 128}) formats.push_back({"affine", bits, group, 0});
  return formats;
}

class OfFormat : public testing::TestWithParam<Format> {};

INSTANTIATE_TEST_SUITE_P(Every, OfFormat, testing::ValuesIn(all_formats()), [](const auto& test) {
  return std::string(test.param.mode) + "_" + std::to_string(test.param.bits) + "_" +
         std::to_string(test.param.group);
});

struct Sizes {
  int m, n, groups;
};

// In float32 MLX rounds no more than the kernel does: both are within 5e-7 of the sum of |x w|,
// where w is the sum of its scaled code and its bias.
void expect_what_mlx_computes(const std::string& language, const Format& format,
                              const Sizes& sizes) {
  const int k = sizes.groups * format.group;
  const mx::Stream cpu = mx::default_stream(mx::Device::cpu);
  const mx::array x = mx::random::normal({sizes.m, k}, mx::random::key(1), cpu);
  const mx::array w = mx::random::normal({sizes.n, k}, mx::random::key(2), cpu);
  std::vector<mx::array> stored =
      mx::quantize(w, format.group, format.bits, format.mode, std::nullopt, cpu);
  std::optional<mx::array> biases;
  if (stored.size() > 2) biases = stored[2];
  const mx::array values = mx::dequantize(stored[0], stored[1], biases, format.group, format.bits,
                                          format.mode, std::nullopt, mx::float32, cpu);
  const mx::array y = mx::quantized_matmul(x, stored[0], stored[1], biases, true, format.group,
                                           format.bits, format.mode, cpu);
  const mx::array terms =
      mx::matmul(mx::abs(x, cpu), mx::transpose(mx::abs(values, cpu), cpu), cpu);
  stored.insert(stored.end(), {x, y, terms});
  mx::eval(stored);
  const void* const absent = x.data<float>();
  const std::vector<const void*> inputs = {x.data<float>(),
                                           stored[0].data<uint32_t>(),
                                           stored[1].data<uint8_t>(),
                                           biases ? biases->data<float>() : absent,
                                           absent,
                                           absent,
                                           absent};
  const Dims dims = {{"M", sizes.m},        {"N", sizes.n},          {"K", k},
                     {"bits", format.bits}, {"group", format.group}, {"mode", format.number},
                     {"has_norm", 0},       {"has_bias", 0},         {"has_residual", 0}};
  const std::vector<float> made = result_of("qmatvec", {language}, Dtype::float32, dims, inputs);
  ASSERT_EQ(made.size(), y.size());
  for (size_t i = 0; i < made.size(); ++i)
    ASSERT_NEAR(made[i], y.data<float>()[i], 1e-6 * terms.data<float>()[i])
        << language << " " << dims.text() << ": element " << i;
}

TEST_P(OfFormat, IsWhatMlxComputes) {
  for (const char* language : {"cpp", "metal"})
    for (const Sizes& sizes : {Sizes{1, 1, 2}, Sizes{1, 37, 4}, Sizes{5, 18, 3}, Sizes{16, 3, 6}})
      expect_what_mlx_computes(language, GetParam(), sizes);
}

// On a Mac the type of the scales is that of the array, T or bytes.
TEST(Qmatvec, IsWhatMlxComputesAsBodiesOfMetalKernel) {
  for (const Format& format : {Format{"affine", 4, 64, 0}, Format{"mxfp8", 8, 32, 2}})
    expect_what_mlx_computes("bodies", format, {3, 18, 4});
}

// --- roundings --------------------------------------------------------------------------------

std::vector<std::byte> stored_as(Dtype t, const std::vector<float>& values) {
  std::vector<std::byte> result(values.size() * static_cast<size_t>(spec::size_of(t)));
  for (size_t i = 0; i < values.size(); ++i)
    spec::store_element(result.data(), static_cast<int64_t>(i), t, values[i]);
  return result;
}

// x w = 257, of which bfloat16 makes 256; + 1 is 257, of which it makes 256 again. A sum that is
// rounded once is 258. Such a kernel is nearer to float64, so no bound rejects it.
std::vector<float> with_residual(const Text& text) {
  const Dtype t = Dtype::bfloat16;
  const auto x = stored_as(t, {256, 1}), w = stored_as(t, {1, 1}), one = stored_as(t, {1});
  return result_of(
      "matvec", text, t,
      {{"M", 1}, {"N", 1}, {"K", 2}, {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 1}},
      {x.data(), w.data(), one.data(), one.data(), one.data()});
}

TEST(Matvec, RoundsTheProductBeforeTheResidual) {
  EXPECT_EQ(with_residual({"cpp"}), std::vector<float>{256});
  EXPECT_EQ(with_residual({"metal"}), std::vector<float>{256});
  EXPECT_EQ(
      with_residual({"cpp", "Floats value = rounded_lanes(product);", "Floats value = product;"}),
      std::vector<float>{258});
  EXPECT_EQ(
      with_residual({"metal", "result.product = float(T(total));", "result.product = total;"}),
      std::vector<float>{258});
}

// The first column of x after a norm with the weight 1.5; the other columns of x are `rest`.
std::vector<float> with_norm(const Text& text, float rest) {
  const Dtype t = Dtype::bfloat16;
  std::vector<float> x(32, rest), w(32, 0), norm(32, 1.5f);
  x[0] = 1, w[0] = 1;
  const auto xs = stored_as(t, x), ws = stored_as(t, w), norms = stored_as(t, norm);
  return result_of(
      "matvec", text, t,
      {{"M", 1}, {"N", 1}, {"K", 32}, {"has_norm", 1}, {"has_bias", 0}, {"has_residual", 0}},
      {xs.data(), ws.data(), norms.data(), xs.data(), xs.data()});
}

TEST(Matvec, RoundsTheNormBeforeAndAfterItsWeight) {
  const std::string once_in_metal = "float(T(float(x[i]) * scale)) * float(w[i])";
  const Text rounds_once[] = {{"cpp", "rounded_lanes(float_lanes(take<Elements>(x + i)) * scale)",
                               "(float_lanes(take<Elements>(x + i)) * scale)"},
                              {"metal", once_in_metal, "float(x[i]) * scale * float(w[i])"}};
  for (const Text& once : rounds_once) {
    int differ = 0;
    for (float rest = 1; rest < 2; rest += 1.0f / 32) {
      double squares = 1 + 31.0 * rest * rest;
      const auto in_bfloat16 = [](double value) {
        uint16_t bits = 0;
        spec::store_element(&bits, 0, Dtype::bfloat16, static_cast<float>(value));
        return spec::load_element(&bits, 0, Dtype::bfloat16);
      };
      const double scaled =
          1 / std::sqrt(squares / 32 + spec::default_scalars(kernels::find_op("matvec"))[0]);
      const float right = in_bfloat16(1.5 * in_bfloat16(scaled));
      EXPECT_EQ(with_norm({once.language}, rest), std::vector<float>{right}) << rest;
      differ += with_norm(once, rest) != std::vector<float>{right};
    }
    EXPECT_GT(differ, 0) << once.language;
  }
}

}  // namespace
}  // namespace mlx_kd::evaluate
