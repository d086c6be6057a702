// What the element-wise activations share: sizes, knobs, launches, references, special values.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// Fills in ports, dims, edge sizes, cost, suites of `width` columns, the special values and the
// kernels <name>.cpu.cpp and <name>.metal of the folder <name>. `inputs`: one or two names.
void make_elementwise(spec::Op& op, const std::string& name, const std::vector<std::string>& inputs,
                      int64_t width);

// number / (1 + exp(-z)) times `factor`, by float32 with one rounding: `magnified` counts roundings
// of z, each of which the exponential magnifies by |z|.
struct GatedValue {
  double number, z, factor;
  double magnified;
};
Charged charged_gate(const GatedValue& value, spec::Dtype dtype);

// The result of each element; `made` gets one value per input.
spec::Reference64 each_element(const std::vector<const void*>& inputs, size_t count,
                               spec::Dtype dtype, const spec::Dims& dims, double accumulated,
                               const std::function<Charged(const double*)>& made);

inline constexpr double kGateRoundings = 20;
inline constexpr const char* kGateDerivation =
    "The result is rounded once. In float32: 8 for the polynomial of 2^f and 2 for its evaluation, "
    "1 "
    "for 1 + e, 4 for the quotient by an estimate and a Newton step, 3 for the products; roundings "
    "of the exponent are magnified by |z| sigmoid(-z), which S holds.";

// intermediate_size and its other names, for a model whose config names one of these gates; misuse
// for another.
std::vector<spec::ModelSizes> mlp_sizes(const spec::ModelConfig& config, const std::string& op,
                                        const std::vector<std::string>& gates);

}  // namespace mlx_kd::kernels
