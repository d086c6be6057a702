// Small operators of what the contract can say and the first four do not: types of their own,
// optional inputs, attributes, updates, gradients by another operator, no form in MLX.
#pragma once

#include <atomic>

#include "mlx_kd/packs/entry.h"
#include "mlx_kd/runtime/pins/operators.h"
#include "mlx_kd/spec/op/candidate.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {

inline const char* const kArguments = R"(
struct kd_arguments {
  const void* inputs[16];
  void* outputs[8];
  void* scratch[4];
  long dims[16];
  double scalars[8];
  long strides[24][4];
  long stage;
};
#ifndef KD_MARK
#define KD_MARK 1
#endif
)";

// A C++ kernel of float32 that is launched over `units(dims)`.
inline spec::Variant cpp_variant(const std::string& name, const std::string& body,
                                 const std::function<int64_t(const spec::Dims&)>& units) {
  spec::Variant variant;
  variant.name = "plain";
  variant.language = "cpp";
  variant.func_name = name;
  variant.source =
      kArguments + ("extern \"C\" void " + name +
                    "(const kd_arguments* a, long begin, long end) {\n" + body + "}\n");
  variant.launch_kind = "cpp_arguments";
  variant.space = [](spec::Dtype, const spec::DeviceTraits&) { return spec::Space(); };
  variant.launch = [units](const spec::Dims& dims, const spec::Setting&) {
    spec::Launch launch;
    launch.grid[0] = launch.group[0] = units(dims);
    return launch;
  };
  return variant;
}

// cache[position] = row, in place; S is free, and MLX has no form of it.
inline const Operator& append_op() {
  static const Operator& made = []() -> const Operator& {
    spec::Op op;
    op.name = "test_append";
    op.inputs = {{"cache",
                  [](const spec::Dims& d) {
                    return spec::Shape{d.at("S"), d.at("D")};
                  }},
                 {"row", [](const spec::Dims& d) { return spec::Shape{d.at("D")}; }}};
    op.outputs = {op.inputs[0]};
    op.outputs[0].name = "updated";
    op.outputs[0].updates = "cache";
    op.dims = {{"S"}, {"D"}};
    op.dims[0].free = true;
    spec::Scalar position;
    position.name = "position";
    position.least = 0;
    position.integer = true;
    op.scalars = {position};
    op.suites = {{"small", {{{"S", 8}, {"D", 4}}}}};
    op.variants = {cpp_variant("test_append", R"(
  const long at = (long)a->scalars[KD_SCALAR_position] * a->dims[KD_DIM_D];
  for (long i = begin; i < end; ++i)
    ((float*)a->outputs[0])[at + i] = KD_MARK * ((const float*)a->inputs[1])[i];
)",
                               [](const spec::Dims& d) { return d.at("D"); })};
    return add_operator(op);
  }();
  return made;
}

// value = table[row][ids[row]] (+ bias[id]) (twice), id = ids[row]: leading rows, a uint32 input
// and output, an optional input that an attribute tells, and an attribute that the call gives.
inline const Operator& pick_op() {
  static const Operator& made = []() -> const Operator& {
    spec::Op op;
    op.name = "test_pick";
    const auto by_row = [](const spec::Dims& d) { return spec::Shape{d.at("rows")}; };
    spec::Port bias{
        "bias", [](const spec::Dims& d) { return spec::Shape{d.at("biased") ? d.at("D") : 0}; }};
    bias.optional = true;
    op.inputs = {{"table",
                  [](const spec::Dims& d) {
                    return spec::Shape{d.at("rows"), d.at("D")};
                  }},
                 {"ids", by_row, spec::Dtype::uint32},
                 bias};
    op.outputs = {{"value", by_row}, {"id", by_row, spec::Dtype::uint32}};
    op.dims = {{"rows"},
               {"D"},
               {"biased", spec::Dim::Kind::attribute},
               {"twice", spec::Dim::Kind::attribute}};
    op.dims[0].leading = true;
    op.batch_dim = "rows";
    op.suites = {{"small", {{{"rows", 2}, {"D", 4}, {"biased", 0}, {"twice", 0}}}}};
    op.signature = [](std::span<const spec::ArrayView> inputs, std::span<const double>,
                      std::span<int64_t> dims) {
      const auto table = inputs[0].shape, ids = inputs[1].shape, last = inputs[2].shape;
      if (table.size() < 2 || ids.size() + 1 != table.size() ||
          !std::equal(ids.begin(), ids.end(), table.begin()))
        throw std::invalid_argument("[test_pick] ids must have the leading axes of table");
      dims[0] = 1;
      for (const int32_t extent : ids) dims[0] *= extent;
      dims[1] = table.back();
      dims[2] = last[0] > 0;
    };
    op.variants = {cpp_variant("test_pick", R"(
  const long d = a->dims[KD_DIM_D];
  const unsigned* ids = (const unsigned*)a->inputs[1];
  for (long i = begin; i < end; ++i) {
    float value = ((const float*)a->inputs[0])[i * d + ids[i]];
    if (a->dims[KD_DIM_biased]) value += ((const float*)a->inputs[2])[ids[i]];
    ((float*)a->outputs[0])[i] = a->dims[KD_DIM_twice] ? 2 * value : value;
    ((unsigned*)a->outputs[1])[i] = ids[i];
  }
)",
                               [](const spec::Dims& d) { return d.at("rows"); })};
    return add_operator(op);
  }();
  return made;
}

inline spec::Op elementwise(const std::string& name, const std::vector<std::string>& inputs,
                            const std::string& output, const std::string& body) {
  const auto by_n = [](const spec::Dims& d) { return spec::Shape{d.at("n")}; };
  spec::Op op;
  op.name = name;
  for (const std::string& input : inputs) op.inputs.push_back({input, by_n});
  op.outputs = {{output, by_n}};
  op.dims = {{"n"}};
  op.suites = {{"small", {{{"n", 8}}}}};
  op.variants = {cpp_variant(
      name, "for (long i = begin; i < end; ++i) ((float*)a->outputs[0])[i] = " + body + ";\n",
      [](const spec::Dims& d) { return d.at("n"); })};
  return op;
}

inline constexpr const char* kFirst = "((const float*)a->inputs[0])[i]";

// y = x^2, whose gradient is an operator that is wrong on purpose: 100 x dy.
inline const Operator& square_op() {
  static const Operator& made = []() -> const Operator& {
    const std::string x = kFirst;
    spec::Op gradient = elementwise("test_square_vjp", {"x", "dy"}, "dx",
                                    "100 * " + x + " * ((const float*)a->inputs[1])[i]");
    add_operator(gradient);
    spec::Op op = elementwise("test_square", {"x"}, "y", "KD_MARK * " + x + " * " + x);
    op.mlx = [](const spec::Op::Arrays& in, std::span<const double>, const mx::Stream& s) {
      return spec::Op::Arrays{mx::square(in[0], s)};
    };
    op.gradient = {spec::Gradient::By::op, "test_square_vjp"};
    return add_operator(op);
  }();
  return made;
}

// y = x, without a gradient.
inline const Operator& constant_op() {
  static const Operator& made = []() -> const Operator& {
    spec::Op op = elementwise("test_constant", {"x"}, "y", std::string("KD_MARK * ") + kFirst);
    op.mlx = [](const spec::Op::Arrays& in, std::span<const double>, const mx::Stream& s) {
      return spec::Op::Arrays{mx::add(in[0], mx::array(0.0f), s)};
    };
    op.gradient.by = spec::Gradient::By::none;
    return add_operator(op);
  }();
  return made;
}

// y = 3 x, which MLX refuses here; `asked` counts how often it was.
inline std::atomic<int>& asked() {
  static std::atomic<int> count{0};
  return count;
}
inline const Operator& refused_op() {
  static const Operator& made = []() -> const Operator& {
    spec::Op op = elementwise("test_refused", {"x"}, "y", std::string("3 * ") + kFirst);
    op.mlx = [](const spec::Op::Arrays&, std::span<const double>,
                const mx::Stream&) -> spec::Op::Arrays {
      ++asked();
      throw std::invalid_argument("[thrice] not on this device");
    };
    return add_operator(op);
  }();
  return made;
}

// A pin of such an op; `mark` is KD_MARK of its kernel.
inline packs::Entry entry_of(const Operator& op, const spec::Dims& dims, int mark) {
  const spec::Variant& variant = op.op->variants.front();
  const spec::Dims complete = spec::complete(*op.op, dims);
  spec::Candidate candidate = spec::make_candidate(*op.op, variant, spec::Dtype::float32,
                                                   {{"KD_MARK", mark}}, {}, complete);
  packs::Measured measured;
  measured.dims = complete;
  measured.protocol = "test";
  packs::Entry entry = packs::make_entry(candidate, measured, this_cpu(), mx::version());
  entry.candidate_id = op.op->name + "_" + std::to_string(mark);
  return entry;
}

}  // namespace mlx_kd::runtime
