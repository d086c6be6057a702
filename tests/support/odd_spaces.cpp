// Operators whose search spaces no kernel has: nothing valid, one point, 10^12 of them. In the
// program kd_odd_spaces they stand in the place of the generated table.
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;

spec::Op op_over(const std::string& name, const spec::Space& space) {
  const auto vector = [](const Dims& dims) { return spec::Shape{dims.at("N")}; };
  spec::Op op;
  op.name = name;
  op.summary = "for tests of the search";
  op.inputs = {{"inp", vector}};
  op.outputs = {{"out", vector, {}, spec::Judge::residuals}};
  op.residuals = [](const spec::JudgedCase&) { return std::vector<spec::Residual>(); };
  op.dims = {{"N"}};
  op.suites = {{"small", {{{"N", 64}}}}};
  op.cost = [](const Dims& dims, spec::Dtype dtype) {
    const auto n = static_cast<double>(dims.at("N"));
    return spec::Cost{2 * n * static_cast<double>(spec::size_of(dtype)), n};
  };
  op.variants = {{"only", "cpp", "// no source", "none", "cpu_rows",
                  [space](spec::Dtype, const spec::DeviceTraits&) { return space; },
                  [](const Dims&, const spec::Setting&) { return spec::Launch{}; }}};
  return op;
}

spec::Space cube(int knobs, int64_t values) {
  spec::Space space;
  for (int i = 0; i < knobs; ++i) {
    spec::Knob knob{"K" + std::to_string(i), {}};
    for (int64_t value = 1; value <= values; ++value) knob.values.push_back(value);
    space.knobs.push_back(knob);
  }
  return space;
}

spec::Space contradiction() {
  spec::Space space = cube(3, 4);
  space.constraints = {
      {"K0 < K1", {"K0", "K1"}, [](const int64_t* v) { return v[0] < v[1]; }},
      {"K1 < K0: the other way round", {"K0", "K1"}, [](const int64_t* v) { return v[1] < v[0]; }}};
  return space;
}

spec::Space huge_contradiction() {
  spec::Space space = cube(12, 10);
  space.constraints = {
      {"K11 > 10: beyond its values", {"K11"}, [](const int64_t* v) { return v[0] > 10; }}};
  return space;
}

spec::Space huge() {
  spec::Space space = cube(12, 10);
  space.constraints = {{"K0 <= K1", {"K0", "K1"}, [](const int64_t* v) { return v[0] <= v[1]; }}};
  return space;
}

}  // namespace

const std::vector<MakeOp*>& op_makers() {
  static const std::vector<MakeOp*> makers = {
      [] { return op_over("contradiction", contradiction()); },
      [] { return op_over("huge", huge()); },
      [] { return op_over("huge_contradiction", huge_contradiction()); },
      [] { return op_over("one_point", cube(3, 1)); }};
  return makers;
}

const std::map<std::string, std::string>& kernel_sources() {
  static const std::map<std::string, std::string> none;
  return none;
}

}  // namespace mlx_kd::kernels
