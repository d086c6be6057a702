// What the bounds of products and of attention leave room for: results as a right kernel stores
// them, and not those of x quantised to 8 bits or of sums without their last elements. Results are
// computed in float64 from inputs that were spoiled, so no kernel is compiled.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/evaluate/proof/references.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate::bounds_of_products {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

// One row of an array, as float.
using Spoil = void (*)(std::vector<float>& row);

void keep(std::vector<float>&) {}

void quantise(std::vector<float>& row) {
  float most = 0;
  for (const float x : row) most = std::max(most, std::fabs(x));
  for (float& x : row) x = most > 0 ? std::round(x * 127 / most) * most / 127 : x;
}

void drop_last(std::vector<float>& row) {
  std::fill(row.end() - 4, row.end(), 0.0f);
}

class Problem {
 public:
  Problem(const spec::Op& op, Dtype t, const Dims& dims)
      : op_(op), t_(t), dims_(dims), scalars_(spec::default_scalars(op)) {
    std::vector<void*> inputs;
    for (const spec::ArraySpec& array : spec::arrays_of(op.inputs, t, dims)) {
      arrays_.emplace_back(static_cast<size_t>(array.bytes()) + 16);
      inputs.push_back(arrays_.back().data());
    }
    op.fill({inputs, t, dims, scalars_, spec::Distribution::normal, 7});
  }

  spec::Shape shape(const std::string& input) const {
    return op_.inputs[index(input)].shape(dims_);
  }
  void* data(const std::string& input) { return arrays_[index(input)].data(); }

  // The same without a norm, x normalised as MLX normalises it: what is multiplied.
  Problem normalised() {
    Problem made = *this;
    const spec::Shape shape = this->shape("x");
    const auto array_of = [&](const std::string& input) {
      const auto type = devices::mlx_dtype(t_);
      const auto sizes = devices::mlx_shape(this->shape(input));
      return mx::array(arrays_[index(input)].data(), sizes, type, [](void*) {});
    };
    mx::array x = mx::fast::rms_norm(array_of("x"), array_of("norm"),
                                     static_cast<float>(scalars_[0]), mx::Device::cpu);
    x.eval();
    std::memcpy(made.data("x"), x.data<char>(), x.nbytes());
    made.dims_.set("has_norm", 0);
    return made;
  }

  Problem with(const std::string& input, Spoil spoil) const {
    Problem made = *this;
    const spec::Shape shape = this->shape(input);
    std::byte* const data = made.arrays_[index(input)].data();
    std::vector<float> row(static_cast<size_t>(shape.back()));
    for (int64_t at = 0; at < spec::element_count(shape); at += shape.back()) {
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = spec::load_element(data, at + static_cast<int64_t>(i), t_);
      spoil(row);
      for (size_t i = 0; i < row.size(); ++i)
        spec::store_element(data, at + static_cast<int64_t>(i), t_, row[i]);
    }
    return made;
  }

  std::vector<spec::Reference64> reference() const {
    std::vector<const void*> inputs;
    for (const auto& array : arrays_) inputs.push_back(array.data());
    return op_.reference(inputs, t_, dims_, scalars_);
  }

  // Whether every result of the other, stored in the type, is within the bounds of this one.
  bool accepts(const Problem& other) const {
    const double accumulated = op_.bound(dims_).accumulated;
    const auto allowed = reference(), made = other.reference();
    for (size_t output = 0; output < allowed.size(); ++output)
      for (size_t k = 0; k < allowed[output].y.size(); ++k) {
        uint32_t bits = 0;
        spec::store_element(&bits, 0, t_, static_cast<float>(made[output].y[k]));
        const double error = std::fabs(spec::load_element(&bits, 0, t_) - allowed[output].y[k]);
        if (!(error <= allowed_error(allowed[output], k, accumulated, t_, {}))) return false;
      }
    return true;
  }

 private:
  size_t index(const std::string& input) const {
    const auto named = [&](const spec::Port& port) { return port.name == input; };
    return static_cast<size_t>(std::find_if(op_.inputs.begin(), op_.inputs.end(), named) -
                               op_.inputs.begin());
  }

  const spec::Op& op_;
  Dtype t_;
  Dims dims_;
  std::vector<double> scalars_;
  std::vector<std::vector<std::byte>> arrays_;
};

Dims size_of(const spec::Op& op, std::initializer_list<Dims::Item> changes) {
  Dims dims = spec::complete(op, op.suites.front().sizes.front());
  for (const auto& [name, value] : changes)
    if (dims.has(name)) dims.set(name, value);
  return dims;
}

bool is_product(const spec::Op& op) {
  return op.name.find("matvec") != std::string::npos || op.name.find("gemm") != std::string::npos;
}

void expect_tight(const Problem& allowed, const Problem& made, const std::string& input,
                  const std::string& where) {
  EXPECT_TRUE(allowed.accepts(made.with(input, keep))) << where;
  EXPECT_FALSE(allowed.accepts(made.with(input, drop_last))) << where << ": the last elements";
  EXPECT_FALSE(allowed.accepts(made.with(input, quantise))) << where << ": 8 bits";
}

TEST(BoundsOfProducts, RejectDroppedElementsAndInt8) {
  int products = 0;
  for (const spec::Op& op : kernels::all_ops()) {
    if (!is_product(op)) continue;
    ++products;
    const Dims plain = size_of(op, {{"M", 2},
                                    {"N", 24},
                                    {"Nq", 24},
                                    {"Nk", 8},
                                    {"Nv", 8},
                                    {"K", 2048},
                                    {"E", 3},
                                    {"A", 2},
                                    {"has_norm", 0},
                                    {"has_bias", 0},
                                    {"has_residual", 0},
                                    {"per_pair", 0}});
    for (const Dtype t : spec::float_dtypes()) {
      const std::string where = op.name + " in " + spec::name_of(t);
      const Problem problem(op, t, plain);
      expect_tight(problem, problem, "x", where);
      if (!plain.has("has_norm")) continue;
      Dims normed = plain;
      normed.set("has_norm", 1);
      Problem with_norm(op, t, normed);
      expect_tight(with_norm, with_norm.normalised(), "x", where + " with a norm");
    }
  }
  EXPECT_GE(products, 8);
}

TEST(BoundsOfAttention, RejectDroppedElementsAndInt8) {
  const spec::Op& op = kernels::find_op("attention");
  const Dims dims = size_of(op, {{"S", 300},
                                 {"B", 1},
                                 {"Hq", 4},
                                 {"Hk", 2},
                                 {"M", 2},
                                 {"Dk", 128},
                                 {"Dv", 64},
                                 {"causal", 0},
                                 {"window", 0},
                                 {"has_mask", 0},
                                 {"has_sinks", 0},
                                 {"has_bias", 0}});
  for (const Dtype t : spec::float_dtypes())
    for (const char* input : {"q", "k", "v"}) {
      const Problem problem(op, t, dims);
      expect_tight(problem, problem, input, std::string(input) + " in " + spec::name_of(t));
    }
}

}  // namespace
}  // namespace mlx_kd::evaluate::bounds_of_products
