#include "mlx_kd/kernels/matmul/products.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/matmul/cuda_variant.h"
#include "mlx_kd/kernels/matmul/metal_variant.h"
#include "mlx_kd/kernels/matmul/model_sizes.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/matmul/product_kernels.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/matmul/weights64.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::Shape;

std::vector<spec::Dim> dims_of(const Kind& kind) {
  using enum spec::Dim::Kind;
  std::vector<spec::Dim> dims = {{"M", dim, true, true}};
  for (const std::string& rows : rows_of(kind.form))
    if (rows != dims.back().name) dims.push_back({rows});
  dims.push_back({"K"});
  std::vector<std::string> attributes;
  if (kind.form == Form::gated) attributes.push_back("activation");
  if (kind.quantised) attributes.insert(attributes.end(), {"bits", "group", "mode"});
  attributes.push_back("has_norm");
  if (kind.form != Form::gated) attributes.push_back("has_bias");
  if (kind.form == Form::single) attributes.push_back("has_residual");
  for (const std::string& name : attributes) dims.push_back({.name = name, .kind = attribute});
  return dims;
}

// "w", or of several matrices "w_gate", "wq".
std::string named(const Kind& kind, const std::string& array, size_t matrix) {
  constexpr const char* kGated[] = {"_gate", "_up"};
  constexpr const char* kQueries[] = {"q", "k", "v"};
  if (kind.form == Form::single) return array;
  if (kind.form == Form::gated) return array + kGated[matrix];
  return (array == "w" ? "w" : array + "_") + kQueries[matrix];
}

std::function<Shape(const Dims&)> rows_by(const std::string& rows, const std::string& columns) {
  return [rows, columns](const Dims& dims) { return Shape{dims.at(rows), dims.at(columns)}; };
}

// Of an input that is there where the attribute says so.
std::function<Shape(const Dims&)> if_there(const std::string& attribute,
                                           std::function<Shape(const Dims&)> shape) {
  return
      [attribute, shape](const Dims& dims) { return dims.at(attribute) ? shape(dims) : Shape{0}; };
}

void add_matrix(const Kind& kind, size_t matrix, std::vector<spec::Port>& ports) {
  const std::string rows = rows_of(kind.form)[matrix];
  if (kind.quantised)
    add_quantised(
        {named(kind, "w", matrix), named(kind, "scales", matrix), named(kind, "biases", matrix)},
        {rows}, ports);
  else
    ports.push_back({named(kind, "w", matrix), rows_by(rows, "K")});
}

spec::Port optional_port(const std::string& name, const std::string& attribute,
                         std::function<Shape(const Dims&)> shape) {
  return {.name = name, .shape = if_there(attribute, std::move(shape)), .optional = true};
}

std::vector<spec::Port> inputs_of(const Kind& kind) {
  std::vector<spec::Port> ports = {{"x", rows_by("M", "K")}};
  const std::vector<std::string> rows = rows_of(kind.form);
  for (size_t i = 0; i < rows.size(); ++i) add_matrix(kind, i, ports);
  ports.push_back(
      optional_port("norm", "has_norm", [](const Dims& dims) { return Shape{dims.at("K")}; }));
  for (size_t i = 0; i < rows.size() && kind.form != Form::gated; ++i)
    ports.push_back(
        optional_port(kind.form == Form::single ? "bias" : named(kind, "bias", i), "has_bias",
                      [name = rows[i]](const Dims& dims) { return Shape{dims.at(name)}; }));
  if (kind.form == Form::single)
    ports.push_back(optional_port("residual", "has_residual", rows_by("M", "N")));
  return ports;
}

std::vector<spec::Port> outputs_of(const Kind& kind) {
  if (kind.form != Form::queries) return {{"y", rows_by("M", "N")}};
  return {{"q", rows_by("M", "Nq")}, {"k", rows_by("M", "Nk")}, {"v", rows_by("M", "Nv")}};
}

// --- a call's sizes -------------------------------------------------------------------------

// Reads a call's size. Everything that needs memory is found when the op is made: it runs at every
// call.
class Reader {
 public:
  Reader(const spec::Op& op, const Kind& kind)
      : op_(op),
        quantised_(kind.quantised),
        gated_(kind.form == Form::gated),
        m_(place("M")),
        k_(place("K")),
        bits_(place("bits")),
        group_(place("group")),
        mode_(place("mode")),
        norm_(place("has_norm")),
        bias_(place("has_bias")),
        residual_(place("has_residual")) {
    for (const std::string& rows : rows_of(kind.form)) rows_.push_back(place(rows));
  }

  void read(std::span<const ArrayView> in, std::span<int64_t> dims) const {
    if (in[0].shape.empty()) refuse(op_, 0, in[0], "it must have at least one axis");
    int64_t m = 1;
    for (size_t i = 0; i + 1 < in[0].shape.size(); ++i) m *= in[0].shape[i];
    dims[m_] = m;
    dims[k_] = in[0].shape.back();
    for (size_t i = 0; i < rows_.size(); ++i) read_matrix(in, i, dims);
    read_optional(in, dims);
  }

 private:
  size_t place(const std::string& name) const {
    const auto named = [&](const spec::Dim& dim) { return dim.name == name; };
    return static_cast<size_t>(std::find_if(op_.dims.begin(), op_.dims.end(), named) -
                               op_.dims.begin());
  }
  size_t arrays_each() const { return quantised_ ? 3 : 1; }

  void read_matrix(std::span<const ArrayView> in, size_t matrix, std::span<int64_t> dims) const {
    const size_t first = 1 + matrix * arrays_each();
    const int64_t k = dims[k_];
    if (in[first].shape.size() != 2) refuse(op_, first, in[first], "it must have two axes");
    if (matrix > 0 && gated_ && in[first].shape[0] != dims[rows_[0]])
      refuse(op_, first, in[first], "it must have as many rows as w_gate");
    dims[rows_[matrix]] = in[first].shape[0];
    if (!quantised_) {
      if (in[first].shape[1] != k)
        refuse(op_, first, in[first], "it must be (N, " + std::to_string(k) + "), as x says");
      return;
    }
    const Format format = read_format(op_, first, in, k);
    if (matrix > 0 &&
        (format.bits != dims[bits_] || format.group != dims[group_] || format.mode != dims[mode_]))
      refuse(op_, first, in[first], "all matrices of a call must have one format");
    dims[bits_] = format.bits, dims[group_] = format.group, dims[mode_] = format.mode;
  }

  // `last` takes the place of the last axis of `shape`.
  void check_optional(std::span<const ArrayView> in, size_t port, std::span<const int32_t> shape,
                      int64_t last) const {
    const auto have = in[port].shape;
    if (have.size() == shape.size() && have.back() == last &&
        std::equal(have.begin(), have.end() - 1, shape.begin()))
      return;
    std::string text = shape_text(shape.first(shape.size() - 1));
    text.insert(text.size() - 1, (shape.size() > 1 ? ", " : "") + std::to_string(last));
    refuse(op_, port, in[port], "it must be " + text + ", or left out");
  }

  // Norm, biases and residual: the last inputs.
  void read_optional(std::span<const ArrayView> in, std::span<int64_t> dims) const {
    constexpr int32_t kOneAxis[] = {0};
    size_t port = 1 + rows_.size() * arrays_each();
    dims[norm_] = !is_left_out(in[port]);
    if (dims[norm_]) check_optional(in, port, kOneAxis, dims[k_]);
    if (gated_) return;
    dims[bias_] = !is_left_out(in[++port]);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (is_left_out(in[port + i]) == (dims[bias_] != 0))
        refuse(op_, port + i, in[port + i], "give all three biases or none");
      if (dims[bias_]) check_optional(in, port + i, kOneAxis, dims[rows_[i]]);
    }
    if (rows_.size() > 1) return;
    dims[residual_] = !is_left_out(in[++port]);
    if (dims[residual_]) check_optional(in, port, in[0].shape, dims[rows_[0]]);
  }

  const spec::Op& op_;
  bool quantised_, gated_;
  std::vector<size_t> rows_;  // places among the dims, one a matrix
  size_t m_, k_, bits_, group_, mode_, norm_, bias_, residual_;
};

Dims complete(const Kind& kind, const Dims& dims) {
  const auto at_most = [&](const char* name, int64_t most, const std::string& what) {
    if (dims.has(name) && dims.at(name) > most)
      base::misuse("kernels", kind.name + ": " + name + " is " + std::to_string(dims.at(name)) +
                                  ": give " + what);
  };
  for (const char* name : {"has_norm", "has_bias", "has_residual"})
    at_most(name, 1, "0 (it is left out) or 1 (it is there)");
  at_most("activation", 1, "0 (silu) or 1 (the tanh form of GELU)");
  if (const std::string why = why_not(format_of(dims), dims.at("K")); !why.empty())
    base::misuse("kernels", kind.name + ": " + why);
  return dims;
}

// --- MLX's form -------------------------------------------------------------------------------

mx::array product_in_mlx(const spec::Op::Arrays& in, size_t first, const mx::array& x,
                         const Format& format, const mx::Stream& s) {
  if (format.mode == kDense) return mx::matmul(x, mx::transpose(in[first], s), s);
  if (x.size() == 0 || in[first].size() == 0) {  // MLX divides by the number of rows
    mx::Shape shape = x.shape();
    shape.back() = in[first].shape(0);
    return mx::zeros(shape, x.dtype(), s);
  }
  std::optional<mx::array> biases;
  if (format.mode == kAffine) biases = in[first + 2];
  return mx::quantized_matmul(x, in[first], in[first + 1], biases, true,
                              static_cast<int>(format.group), static_cast<int>(format.bits),
                              mlx_mode(format), s);
}

// `numbers`: eps, then the attributes in order.
spec::Op::Arrays mlx_form(const Kind& kind, const spec::Op::Arrays& in,
                          std::span<const double> numbers, const mx::Stream& s) {
  size_t next = 1;
  const auto number = [&] { return static_cast<int64_t>(numbers[next++]); };
  const bool is_gelu = kind.form == Form::gated && number() == 1;
  Format format;
  if (kind.quantised) {
    format.bits = number();
    format.group = number();
    format.mode = number();
  }
  const bool has_norm = number(), has_bias = kind.form != Form::gated && number();
  const bool has_residual = kind.form == Form::single && number();
  const size_t matrices = rows_of(kind.form).size(), each = kind.quantised ? 3 : 1;
  const size_t norm = 1 + matrices * each;
  const mx::array x =
      has_norm ? mx::fast::rms_norm(in[0], in[norm], static_cast<float>(numbers[0]), s) : in[0];
  spec::Op::Arrays products;
  for (size_t i = 0; i < matrices; ++i) {
    products.push_back(product_in_mlx(in, 1 + i * each, x, format, s));
    if (has_bias) products[i] = mx::add(products[i], in[norm + 1 + i], s);
  }
  if (kind.form == Form::gated)
    return {mx::multiply(activated_in_mlx(products[0], is_gelu, s), products[1], s)};
  if (has_residual) products[0] = mx::add(products[0], in[norm + 2], s);
  return products;
}

// --- inputs of proofs -------------------------------------------------------------------------

void fill(const Kind& kind, const spec::Op& op, const spec::FillRequest& request) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const std::vector<std::string> rows = rows_of(kind.form);
  const size_t each = kind.quantised ? 3 : 1, norm = 1 + rows.size() * each;
  const int64_t m = request.dims.at("M"), k = request.dims.at("K");
  fill_values(request.inputs[0], m * k, request, random);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto first = request.inputs.begin() + static_cast<std::ptrdiff_t>(1 + i * each);
    fill_weights(format_of(request.dims), request.t, request.dims.at(rows[i]), k,
                 {first, first + static_cast<std::ptrdiff_t>(each)}, random);
  }
  for (size_t i = norm; i < request.inputs.size(); ++i) {
    const int64_t count = spec::element_count(op.inputs[i].shape(request.dims));
    for (int64_t j = 0; j < count; ++j)
      spec::store_element(request.inputs[i], j, request.t,
                          static_cast<float>((i == norm ? 0.75 : -0.5) + random.uniform() / 2));
  }
  if (request.distribution != spec::Distribution::special) return;
  // Row 0 has a NaN, unless the reference is sampled; then zeros of both signs, and subnormals.
  if (m > 1 && !is_sampled(kind, request.dims))
    spec::store_element(request.inputs[0], k / 3, request.t, std::nanf(""));
  for (int64_t j = 0; j < k && m > 2; ++j) {
    const double tiny = spec::smallest_subnormal(request.t) * static_cast<double>(j % 9);
    spec::store_element(request.inputs[0], k + j, request.t, j % 2 ? -0.0f : 0.0f);
    spec::store_element(request.inputs[0], 2 * k + j, request.t, static_cast<float>(tiny));
  }
}

spec::Cost cost_of(const Kind& kind, const spec::Op& op, const Dims& dims, Dtype t) {
  double flops = 0;
  for (const std::string& rows : rows_of(kind.form))
    flops += 2.0 * static_cast<double>(dims.at("M")) * static_cast<double>(dims.at(rows)) *
             static_cast<double>(dims.at("K"));
  return {
      static_cast<double>(spec::bytes_of(op.inputs, t, dims) + spec::bytes_of(op.outputs, t, dims)),
      flops};
}

// What needs the ports of the op: a copy of them, which outlives the op that is built here.
void add_functions(const Kind& kind, spec::Op& op) {
  spec::Op ports;
  ports.name = op.name;
  ports.inputs = op.inputs;
  ports.outputs = op.outputs;
  ports.dims = op.dims;
  const auto shared = std::make_shared<const spec::Op>(std::move(ports));
  const auto reader = std::make_shared<const Reader>(*shared, kind);
  op.signature = [shared, reader](std::span<const ArrayView> in, std::span<const double>,
                                  std::span<int64_t> dims) { reader->read(in, dims); };
  op.fill = [shared, kind](const spec::FillRequest& request) { fill(kind, *shared, request); };
  op.cost = [shared, kind](const Dims& dims, Dtype t) {
    return matmul::cost_of(kind, *shared, dims, t);
  };
}

}  // namespace

namespace {

// MLX's quantised products and those of 16 bits go through the rows of x one after another or in
// blocks of a few; float32 has a BLAS, which is at its best with many.
int64_t mlx_rows(const Kind& kind, Dtype t) {
  if (!kind.many_rows) return kind.quantised ? 1 : 0;
  return !kind.quantised && t == Dtype::float32 ? 256 : 32;
}

}  // namespace

spec::Op product_op(const Kind& kind) {
  spec::Op op;
  op.name = kind.name;
  op.summary = kind.summary;
  op.inputs = inputs_of(kind);
  op.outputs = outputs_of(kind);
  op.dims = matmul::dims_of(kind);
  op.batch_dim = "M";
  op.proof_dims = rows_of(kind.form);
  op.proof_dims.erase(std::unique(op.proof_dims.begin(), op.proof_dims.end()), op.proof_dims.end());
  op.scalars = {eps_scalar()};
  op.suites = suites_of(kind);
  op.edge_sizes = edges_of(kind);
  op.complete = [kind](const Dims& dims) { return complete(kind, dims); };
  op.of_model = [kind](const spec::ModelConfig& config) { return sizes_of_model(kind, config); };
  op.mlx = [kind](const spec::Op::Arrays& in, std::span<const double> numbers,
                  const mx::Stream& s) { return mlx_form(kind, in, numbers, s); };
  op.mlx_rows = [kind](Dtype t) { return mlx_rows(kind, t); };
  op.reference = [kind](const std::vector<const void*>& inputs, Dtype t, const Dims& dims,
                        const std::vector<double>& scalars) {
    return reference_of(kind, inputs, t, dims, scalars);
  };
  op.bound = [kind](const Dims&) { return bound_of(kind); };
  op.is_sampled = [kind](const Dims& dims) { return is_sampled(kind, dims); };
  add_functions(kind, op);
  op.variants = products_on_cpu(kind);
  if (!kind.many_rows) {
    op.variants.push_back(metal_variant(kind));
    op.variants.push_back(cuda_variant(kind));
  }
  return op;
}

}  // namespace mlx_kd::kernels::matmul
