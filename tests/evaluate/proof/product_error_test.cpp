// Products before their one rounding: within 1e-6 of the sum of |x w|, with each instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate::product_error_test {
namespace {

using spec::Dims;
using spec::Dtype;

// The three rows of x are equal. Those of y are made the product rounded, what that leaves rounded,
// and what is then left, which together are the float32 that was rounded.
const char kRight[] = "Floats value = rounded_lanes(product);";
const char kWrong[] =
    "const Floats first = rounded_lanes(product), rest = product - first;"
    "Floats value = m == 0 ? first : m == 1 ? rounded_lanes(rest) : rest - rounded_lanes(rest);";

struct Format {
  int64_t bits, group, mode;
};

class Product {
 public:
  Product(const std::string& op, Dtype t, const spec::Setting& knobs)
      : op_(kernels::find_op(op)), t_(t), knobs_(knobs) {}

  // The largest error in shares of the sum of |x w|.
  double error_in(const Format& format) {
    Dims given = {{"M", 3}, {"N", 70}, {"K", 2048}};
    if (op_.name[0] == 'q') {
      given.set("bits", format.bits);
      given.set("group", format.group);
      given.set("mode", format.mode);
    }
    const Dims dims = spec::complete(op_, given);
    make(dims);
    const std::vector<float> y = run(dims);
    if (y.empty()) return std::numeric_limits<double>::infinity();  // run() said why
    const std::vector<const void*> inputs = pointers();
    const spec::Reference64 wanted =
        op_.reference(inputs, t_, dims, spec::default_scalars(op_)).front();
    const size_t n = 70;
    double worst = 0;
    for (size_t i = 0; i < n; ++i) {
      const double made = double{y[i]} + double{y[n + i]} + double{y[2 * n + i]};
      worst = std::max(worst, std::fabs(made - wanted.y[i]) / wanted.terms[i]);
    }
    return worst;
  }

 private:
  void make(const Dims& dims) {
    memory_.clear();
    std::vector<void*> to;
    for (const spec::ArraySpec& array : spec::arrays_of(op_.inputs, t_, dims))
      memory_.emplace_back(static_cast<size_t>(array.bytes()) + 64);
    for (auto& array : memory_) to.push_back(array.data());
    op_.fill({to, t_, dims, spec::default_scalars(op_), spec::Distribution::normal, 3});
    const auto row = 2048 * spec::size_of(t_);
    for (const int64_t i : {1, 2})
      std::copy_n(memory_[0].begin(), row, memory_[0].begin() + i * row);
  }

  std::vector<const void*> pointers() const {
    std::vector<const void*> result;
    for (const auto& array : memory_) result.push_back(array.data());
    return result;
  }

  std::vector<float> run(const Dims& dims) {
    const auto device = devices::open_device("cpu");
    const spec::Variant& variant = op_.variants.front();
    const spec::Space space = variant.space(t_, device->id().traits);
    spec::Candidate candidate = spec::make_candidate(op_, variant, t_, knobs_, space, dims);
    const size_t at = candidate.source.find(kRight);
    EXPECT_NE(at, std::string::npos);
    if (at == std::string::npos) return {};
    candidate.source.replace(at, sizeof kRight - 1, kWrong);
    const devices::Artifact artifact = device->compile(candidate, 60);
    EXPECT_TRUE(artifact.ok) << artifact.error;
    if (!artifact.ok) return {};
    std::vector<std::byte> y(static_cast<size_t>(spec::array_of(op_.outputs[0], t_, dims).bytes()));
    device->load(artifact, candidate)
        ->launch(pointers(), {y.data()},
                 devices::make_call(op_, variant, t_, dims, knobs_, spec::default_scalars(op_)));
    std::vector<float> made;
    for (int64_t i = 0; i < 3 * 70; ++i)
      made.push_back(static_cast<float>(spec::load_element(y.data(), i, t_)));
    return made;
  }

  const spec::Op& op_;
  Dtype t_;
  spec::Setting knobs_;
  std::vector<std::vector<std::byte>> memory_;
};

// Settings that take one instruction set each: dot products of bfloat16 and vectors of all widths.
std::vector<spec::Setting> settings_of(const std::string& op, Dtype t) {
  const spec::Variant& variant = kernels::find_op(op).variants.front();
  const spec::Space space = variant.space(t, devices::open_device("cpu")->id().traits);
  const spec::Setting usual = spec::default_setting(space);
  std::vector<spec::Setting> settings = {usual};
  for (const int64_t bytes : space.knobs.front().values) {
    spec::Setting setting = usual;
    setting.set("VEC", bytes);
    if (setting.has("DOT")) setting.set("DOT", 0);
    if (setting != usual) settings.push_back(setting);
  }
  return settings;
}

// Without MLX_KD_LONG the default settings of qmatvec and qgemm in bfloat16.
TEST(Products, AreNearFloat64BeforeTheyAreRounded) {
  const bool is_long = std::getenv("MLX_KD_LONG");
  for (const char* op : {"qmatvec", "qgemm", "matvec", "gemm"})
    for (const Dtype t : spec::float_dtypes()) {
      if (!is_long && (op[0] != 'q' || t != Dtype::bfloat16)) continue;
      for (const spec::Setting& setting : settings_of(op, t)) {
        Product product(op, t, setting);
        for (const Format& format : {Format{4, 64, 0},
                                     {8, 64, 0},
                                     {5, 32, 0},
                                     {2, 128, 0},
                                     {4, 32, 1},
                                     {8, 32, 2},
                                     {4, 16, 3}})
          EXPECT_LE(product.error_in(format), 1e-6)
              << op << " " << name_of(t) << " " << setting.text() << ": " << format.bits
              << " bits in groups of " << format.group << ", mode " << format.mode;
        if (!is_long) break;
      }
    }
}

}  // namespace
}  // namespace mlx_kd::evaluate::product_error_test
