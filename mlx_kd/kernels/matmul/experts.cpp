#include "mlx_kd/kernels/matmul/experts.h"

#include <mlx/backend/metal/metal.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/matmul/cuda_variant.h"
#include "mlx_kd/kernels/matmul/expert_kernels.h"
#include "mlx_kd/kernels/matmul/expert_sizes.h"
#include "mlx_kd/kernels/matmul/metal_variant.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/matmul/reference.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::ArrayView;
using spec::Dims;
using spec::Dtype;

constexpr size_t kIds = 1, kFirst = 2;  // inputs: x, ids, then those of each matrix

std::vector<spec::Dim> expert_dims(const Kind& kind) {
  using enum spec::Dim::Kind;
  std::vector<spec::Dim> dims = {{"M", dim, true, true}, {"A"}, {"E"}, {"N"}, {"K"}};
  std::vector<std::string> attributes;
  if (kind.form == Form::gated) attributes.push_back("activation");
  if (kind.quantised) attributes.insert(attributes.end(), {"bits", "group", "mode"});
  attributes.insert(attributes.end(), {"per_pair", "has_bias"});
  for (const std::string& name : attributes) dims.push_back({.name = name, .kind = attribute});
  return dims;
}

std::vector<spec::Port> expert_inputs(const Kind& kind) {
  std::vector<spec::Port> ports = {
      {"x",
       [](const Dims& dims) {
         return spec::Shape{dims.at("M"), dims.at("per_pair") ? dims.at("A") : 1, dims.at("K")};
       }},
      {"ids",
       [](const Dims& dims) {
         return spec::Shape{dims.at("M"), dims.at("A")};
       },
       Dtype::uint32}};
  std::vector<std::string> suffixes = {""};
  if (kind.form == Form::gated) suffixes = {"_gate", "_up"};
  for (const std::string& suffix : suffixes)
    if (kind.quantised)
      add_quantised({"w" + suffix, "scales" + suffix, "biases" + suffix}, {"E", "N"}, ports);
    else
      ports.push_back({"w" + suffix, [](const Dims& dims) {
                         return spec::Shape{dims.at("E"), dims.at("N"), dims.at("K")};
                       }});
  for (const std::string& suffix : suffixes)
    ports.push_back({.name = "bias" + suffix,
                     .shape =
                         [](const Dims& dims) {
                           return dims.at("has_bias") ? spec::Shape{dims.at("E"), dims.at("N")}
                                                      : spec::Shape{0};
                         },
                     .optional = true});
  return ports;
}

// Reads a call's size; it runs at every call and allocates nothing.
class ExpertReader {
 public:
  ExpertReader(const spec::Op& op, const Kind& kind)
      : op_(op),
        matrices_(matrices_of(kind)),
        each_(arrays_each(kind)),
        gated_(kind.form == Form::gated) {}

  void read(std::span<const ArrayView> in, std::span<int64_t> dims) const {
    const auto x = in[0].shape, ids = in[kIds].shape, w = in[kFirst].shape;
    if (x.size() < 2) refuse(op_, 0, in[0], "it must be (..., 1, K) or (..., A, K)");
    if (ids.empty() || ids.size() + 1 != x.size() ||
        !std::equal(ids.begin(), ids.end() - 1, x.begin()))
      refuse(op_, kIds, in[kIds], "it must be (..., A), as x is " + shape_text(x));
    const int64_t rows = x[x.size() - 2], chosen = ids.back();
    if (rows != 1 && rows != chosen)
      refuse(op_, 0, in[0],
             "its axis before the last must be 1 or that of ids, " + std::to_string(chosen));
    int64_t tokens = 1;
    for (size_t i = 0; i + 1 < ids.size(); ++i) tokens *= ids[i];
    if (w.size() != 3)
      refuse(op_, kFirst, in[kFirst],
             is_quantised() ? "it must be (E, N, K bits / 32)" : "it must be (E, N, K)");
    if (w[0] < 1) refuse(op_, kFirst, in[kFirst], "it must have at least one expert");
    const int64_t values[] = {tokens, chosen, w[0], w[1], x.back()};
    auto to = std::copy(std::begin(values), std::end(values), dims.begin());
    if (gated_) ++to;
    to = read_formats(in, x.back(), to);
    *to++ = rows != 1;
    *to = read_biases(in);
  }

 private:
  using Values = std::span<int64_t>::iterator;

  bool is_quantised() const { return each_ > 1; }

  Values read_formats(std::span<const ArrayView> in, int64_t k, Values to) const {
    if (!is_quantised()) {
      if (in[kFirst].shape[2] != k)
        refuse(op_, kFirst, in[kFirst], "it must be (E, N, " + std::to_string(k) + "), as x says");
      for (size_t i = 1; i < matrices_; ++i) check_shape(in, i);
      return to;
    }
    const Format format = read_format(op_, kFirst, in, k);
    for (size_t i = 1; i < matrices_; ++i) check_same(in, i, format, k);
    for (const int64_t value : {format.bits, format.group, format.mode}) *to++ = value;
    return to;
  }

  void check_shape(std::span<const ArrayView> in, size_t matrix) const {
    const size_t at = kFirst + each_ * matrix;
    if (!std::equal(in[at].shape.begin(), in[at].shape.end(), in[kFirst].shape.begin(),
                    in[kFirst].shape.end()))
      refuse(op_, at, in[at], "it must be " + shape_text(in[kFirst].shape) + ", as w_gate is");
  }

  void check_same(std::span<const ArrayView> in, size_t matrix, const Format& format,
                  int64_t k) const {
    const size_t at = kFirst + each_ * matrix;
    check_shape(in, matrix);
    const Format own = read_format(op_, at, in, k);
    if (own.bits != format.bits || own.group != format.group || own.mode != format.mode)
      refuse(op_, at + 1, in[at + 1], "all matrices of a call must have one format");
  }

  bool read_biases(std::span<const ArrayView> in) const {
    const size_t first = kFirst + each_ * matrices_;
    const auto wanted = in[kFirst].shape.first(2);
    const bool has_bias = !is_left_out(in[first]);
    for (size_t i = first; i < first + matrices_; ++i) {
      if (is_left_out(in[i]) && !has_bias) continue;
      if (!std::equal(wanted.begin(), wanted.end(), in[i].shape.begin(), in[i].shape.end()))
        refuse(op_, i, in[i], "it must be " + shape_text(wanted) + ", or all biases left out");
    }
    return has_bias;
  }

  const spec::Op& op_;
  size_t matrices_, each_;
  bool gated_;
};

Dims complete_experts(const Kind& kind, const Dims& given) {
  Dims dims = given;
  for (const char* name : {"per_pair", "has_bias"})
    if (dims.at(name) > 1)
      base::misuse("kernels", kind.name + ": " + name + " is " + std::to_string(dims.at(name)) +
                                  ": give 0 or 1");
  if (dims.value_or("activation", 0) > 2)
    base::misuse("kernels",
                 kind.name + ": activation is " + std::to_string(dims.at("activation")) +
                     ": give 0 (silu), 1 (the tanh form of GELU) or 2 (that of gpt-oss)");
  if (const std::string why = why_not(format_of(dims), dims.at("K")); !why.empty())
    base::misuse("kernels", kind.name + ": " + why);
  if (dims.at("A") == 1) dims.set("per_pair", 0);  // the same
  return dims;
}

// --- MLX's form -------------------------------------------------------------------------------

mlx::core::array gated_oai_in_mlx(const mlx::core::array& gate, const mlx::core::array& up,
                                  const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const auto number = [&](double x) { return mx::array(static_cast<float>(x), gate.dtype()); };
  const mx::array g = mx::minimum(gate, number(7), s);
  const mx::array linear = mx::add(mx::clip(up, number(-7), number(7), s), number(1), s);
  return mx::multiply(linear, mx::multiply(g, mx::sigmoid(mx::multiply(number(1.702), g, s), s), s),
                      s);
}

// The product of one matrix, from input `at` on, with rows of x (..., 1, K).
mlx::core::array chosen_in_mlx(const spec::Op::Arrays& in, size_t at, const mlx::core::array& x,
                               const mlx::core::array& ids, const Format& format, bool sorted,
                               const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  if (format.mode == kDense) {
    // On a CPU it takes float32 alone.
    const mx::Dtype type = s.device == mx::Device::cpu ? mx::float32 : x.dtype();
    const mx::array w = mx::swapaxes(mx::astype(in[at], type, s), -1, -2, s);
    // On CUDA MLX 0.32.4 gives wrong values for sorted experts of 16 bits
    // (bench/results/gpu_prefill_h200.json).
    const bool may_be_sorted = s.device == mx::Device::cpu || mx::metal::is_available();
    const mx::array y =
        mx::gather_mm(mx::astype(x, type, s), w, std::nullopt, ids, sorted && may_be_sorted, s);
    return mx::astype(y, x.dtype(), s);
  }
  std::optional<mx::array> biases;
  if (format.mode == kAffine) biases = in[at + 2];
  return mx::gather_qmm(x, in[at], in[at + 1], biases, std::nullopt, ids, true,
                        static_cast<int>(format.group), static_cast<int>(format.bits),
                        mlx_mode(format), std::nullopt, sorted, s);
}

// Rows of x as MLX takes them, and the experts of each. Those of many tokens are sorted by expert
// first; `back` undoes it.
struct RowsInMlx {
  mlx::core::array x, ids;
  std::optional<mlx::core::array> back;
};

RowsInMlx rows_in_mlx(const Kind& kind, const spec::Op::Arrays& in, const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  if (!kind.many_rows) return {mx::expand_dims(in[0], -2, s), in[kIds], {}};
  const mx::array ids = mx::flatten(in[kIds], s);
  const mx::array order = mx::argsort(ids, s);
  const int rows = in[0].shape(-2), chosen = in[kIds].shape(-1);
  const mx::array row =
      rows == chosen ? order : mx::floor_divide(order, mx::array(chosen, order.dtype()), s);
  const mx::array x = mx::take(mx::flatten(in[0], 0, -2, s), row, 0, s);
  return {mx::expand_dims(x, -2, s), mx::take(ids, order, s), mx::argsort(order, s)};
}

// `numbers`: the attributes in order.
spec::Op::Arrays experts_in_mlx(const Kind& kind, const spec::Op::Arrays& in,
                                std::span<const double> numbers, const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  size_t next = 0;
  const auto number = [&] { return static_cast<int64_t>(numbers[next++]); };
  const int64_t activation = kind.form == Form::gated ? number() : 0;
  Format format;
  if (kind.quantised) {
    format.bits = number();
    format.group = number();
    format.mode = number();
  }
  const bool has_bias = numbers.back() != 0;
  const size_t matrices = matrices_of(kind), each = arrays_each(kind);
  const RowsInMlx rows = rows_in_mlx(kind, in, s);
  spec::Op::Arrays sums;
  for (size_t i = 0; i < matrices; ++i) {
    mx::array y = mx::squeeze(
        chosen_in_mlx(in, kFirst + each * i, rows.x, rows.ids, format, rows.back.has_value(), s),
        -2, s);
    if (has_bias) y = mx::add(y, mx::take(in[kFirst + each * matrices + i], rows.ids, 0, s), s);
    sums.push_back(y);
  }
  mx::array y = sums[0];
  if (kind.form == Form::gated)
    y = activation == 2 ? gated_oai_in_mlx(sums[0], sums[1], s)
                        : mx::multiply(activated_in_mlx(sums[0], activation == 1, s), sums[1], s);
  if (!rows.back) return {y};
  mx::Shape shape = in[kIds].shape();
  shape.push_back(y.shape(-1));
  return {mx::reshape(mx::take(y, *rows.back, 0, s), shape, s)};
}

// --- inputs of proofs -------------------------------------------------------------------------

// As a router chooses them: different ones for a token, where there are as many.
void fill_ids(uint32_t* ids, const Dims& dims, base::Random& random) {
  const int64_t experts = dims.at("E"), chosen = dims.at("A");
  std::vector<uint32_t> all(static_cast<size_t>(experts));
  for (int64_t token = 0; token < dims.at("M"); ++token) {
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint32_t>(i);
    for (int64_t i = 0; i < chosen; ++i) {
      const auto at = static_cast<size_t>(i % experts);
      std::swap(all[at], all[at + random.below(all.size() - at)]);
      ids[token * chosen + i] = all[at];
    }
  }
}

void fill_experts(const Kind& kind, const spec::FillRequest& request) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  const int64_t k = dims.at("K"), rows = dims.at("E") * dims.at("N");
  const int64_t x_rows = x_rows_of(dims);
  const size_t matrices = matrices_of(kind), each = arrays_each(kind);
  const size_t bias = kFirst + each * matrices;
  fill_values(request.inputs[0], x_rows * k, request, random);
  fill_ids(static_cast<uint32_t*>(request.inputs[kIds]), dims, random);
  for (size_t i = 0; i < matrices; ++i) {
    const auto first = request.inputs.begin() + static_cast<std::ptrdiff_t>(kFirst + each * i);
    fill_weights(format_of(dims), request.t, rows, k,
                 {first, first + static_cast<std::ptrdiff_t>(each)}, random);
  }
  for (size_t i = bias; i < bias + matrices && dims.at("has_bias"); ++i)
    for (int64_t j = 0; j < rows; ++j)
      spec::store_element(request.inputs[i], j, request.t,
                          static_cast<float>(-0.5 + random.uniform()));
  if (request.distribution != spec::Distribution::special) return;
  // Row 0 has a NaN; row 1 zeros of both signs.
  if (x_rows > 1) spec::store_element(request.inputs[0], k / 3, request.t, std::nanf(""));
  for (int64_t j = 0; j < k && x_rows > 2; ++j)
    spec::store_element(request.inputs[0], k + j, request.t, j % 2 ? -0.0f : 0.0f);
}

// Each chosen expert's weights are read once.
spec::Cost cost_of_experts(const Kind& kind, const Dims& dims, Dtype t) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const auto size = static_cast<double>(spec::size_of(t));
  const Format format = format_of(dims);
  const double pairs = number("M") * number("A"), read = std::min(pairs, number("E"));
  const auto groups = static_cast<double>(group_count(dims));
  const double codes = format.mode == kDense ? size : number("bits") / 8;
  const double row = number("K") * codes + groups * (format.mode == kAffine ? 2 * size : 1) +
                     number("has_bias") * size;
  const auto matrices = static_cast<double>(matrices_of(kind));
  const double rows = number("per_pair") != 0 ? pairs : number("M");
  return {rows * number("K") * size + pairs * 4 + read * matrices * number("N") * row +
              pairs * number("N") * size,
          2 * pairs * matrices * number("N") * number("K")};
}

}  // namespace

spec::Op expert_product_op(const Kind& kind) {
  spec::Op op;
  op.name = kind.name;
  op.summary = kind.summary;
  op.inputs = expert_inputs(kind);
  op.outputs = {{"y", [](const Dims& dims) {
                   return spec::Shape{dims.at("M"), dims.at("A"), dims.at("N")};
                 }}};
  op.dims = expert_dims(kind);
  op.batch_dim = "M";
  op.proof_dims = {"N", "E"};
  op.suites = expert_suites(kind);
  op.edge_sizes = expert_edges(kind);
  op.complete = [kind](const Dims& dims) { return complete_experts(kind, dims); };
  op.of_model = [kind](const spec::ModelConfig& config) { return experts_of_model(kind, config); };
  op.mlx = [kind](const spec::Op::Arrays& in, std::span<const double> numbers,
                  const mlx::core::Stream& s) { return experts_in_mlx(kind, in, numbers, s); };
  // MLX's quantised form goes through the tokens one after another.
  op.mlx_rows = [kind](Dtype) { return int64_t(kind.quantised ? 1 : 0); };
  op.reference = [kind](const std::vector<const void*>& inputs, Dtype t, const Dims& dims,
                        const std::vector<double>&) {
    return reference_of_experts(kind, inputs, t, dims);
  };
  op.bound = [kind](const Dims&) { return bound_of_experts(kind); };
  op.fill = [kind](const spec::FillRequest& request) { fill_experts(kind, request); };
  op.cost = [kind](const Dims& dims, Dtype t) { return cost_of_experts(kind, dims, t); };
  spec::Op ports;  // of messages; it outlives the op that is built here
  ports.name = op.name;
  ports.inputs = op.inputs;
  const auto shared = std::make_shared<const spec::Op>(std::move(ports));
  const auto reader = std::make_shared<const ExpertReader>(*shared, kind);
  op.signature = [shared, reader](std::span<const ArrayView> in, std::span<const double>,
                                  std::span<int64_t> dims) { reader->read(in, dims); };
  op.variants = {experts_on_cpu(kind)};
  if (!kind.many_rows) op.variants.push_back(experts_in_metal(kind));
  if (kind.many_rows) op.variants.push_back(cuda_variant_of_groups(kind));
  if (!kind.many_rows && kind.quantised) op.variants.push_back(cuda_variant_of_experts(kind));
  return op;
}

}  // namespace mlx_kd::kernels::matmul
