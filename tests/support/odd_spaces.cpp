// Operators that no operator of the table is like, in whose place they stand in the program
// kd_odd_spaces. Search spaces that no kernel has: nothing valid, one point, 10^12 of them. Two
// free dims, no form in MLX, and a variant that is approximate.
#include <cmath>

#include "mlx_kd/kernels/common/reference64.h"
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

// y = 3 x over (M, S), both of which may vary.
spec::Op boxes(const std::string& name, const std::string& product,
               const std::string& approximate) {
  const auto matrix = [](const Dims& dims) { return spec::Shape{dims.at("M"), dims.at("S")}; };
  spec::Op op = op_over(name, cube(1, 2));
  op.inputs = {{"inp", matrix}};
  op.outputs = {{"out", matrix}};
  op.residuals = nullptr;
  op.dims = {{.name = "M", .free = true}, {.name = "S", .free = true}};
  op.batch_dim = "M";
  op.suites = {{"small", {{{"M", 2}, {"S", 16}}}}};
  op.cost = nullptr;
  op.reference = [](const std::vector<const void*>& inputs, spec::Dtype dtype, const Dims& dims,
                    const std::vector<double>&) {
    spec::Reference64 out;
    for (int64_t i = 0; i < dims.at("M") * dims.at("S"); ++i) {
      const double y = 3 * spec::load_element(inputs[0], i, dtype);
      append(out, {y, std::abs(y), std::abs(y), 0});
    }
    return std::vector<spec::Reference64>{out};
  };
  op.bound = [](const Dims&) { return spec::ErrorBound{1, "one product in float32"}; };
  spec::Variant& variant = op.variants.front();
  variant.source = R"(
extern "C" void kd_boxes(const void* const* inputs, void* const* outputs, const long* dims,
                         const double*, long begin, long end) {
  const float* x = (const float*)inputs[0];
  float* y = (float*)outputs[0];
  for (long i = begin * dims[1]; i < end * dims[1]; ++i) y[i] = )" +
                   product + ";\n}\n";
  variant.func_name = "kd_boxes";
  variant.launch = [](const Dims& dims, const spec::Setting&) {
    spec::Launch launch;
    launch.grid[0] = launch.group[0] = dims.at("M");
    return launch;
  };
  variant.approximate = approximate;
  variant.approximate_terms = approximate.empty() ? 0 : 0.02;
  return op;
}

}  // namespace

const std::vector<MakeOp*>& op_makers() {
  static const std::vector<MakeOp*> makers = {
      [] { return boxes("boxes", "3 * x[i]", ""); },
      [] { return op_over("contradiction", contradiction()); },
      [] {
        spec::Op op = op_over("huge", huge());
        op.variants.front().source += std::string(8000, '.');  // as long as a kernel's
        return op;
      },
      [] { return op_over("huge_contradiction", huge_contradiction()); },
      [] { return op_over("one_point", cube(3, 1)); },
      [] { return boxes("rough_boxes", "3.03f * x[i]", "one per cent too large"); }};
  return makers;
}

const std::map<std::string, std::string>& kernel_sources() {
  static const std::map<std::string, std::string> none;
  return none;
}

}  // namespace mlx_kd::kernels
