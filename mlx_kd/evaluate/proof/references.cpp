#include "mlx_kd/evaluate/proof/references.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/inputs.h"
#include "mlx_kd/evaluate/proof/mlx_arrays.h"

namespace mlx_kd::evaluate {
namespace {

template <class Pointer>
std::vector<Pointer> pointers(std::byte* memory, const std::vector<Span>& spans) {
  std::vector<Pointer> result;
  for (const Span& span : spans) result.push_back(memory + span.offset);
  return result;
}

void store_mlx(const spec::Op& op, spec::Dtype dtype, const Case& c, std::byte* memory) {
  spec::Op::Arrays inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i)
    inputs.push_back(to_mlx(memory + c.inputs[i].offset, op.inputs[i].shape(c.dims), dtype));
  const auto outputs = evaluated(op.mlx(inputs, c.params), op.outputs.size(), dtype, op.name);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (static_cast<int64_t>(outputs[i].nbytes()) != c.expected[i].bytes)
      base::fail("evaluate", "output '" + op.outputs[i].name + "' of op '" + op.name +
                                 "' has another shape in MLX: mend its op.cpp");
    std::memcpy(memory + c.expected[i].offset, outputs[i].data<char>(), outputs[i].nbytes());
  }
}

void store_reference(const spec::Op& op, spec::Dtype dtype, const Case& c, const Protocol& protocol,
                     std::byte* memory) {
  const auto references =
      op.reference(pointers<const void*>(memory, c.inputs), dtype, c.dims, c.params);
  const spec::ErrorBound bound = op.bound(c.dims);
  for (size_t i = 0; i < references.size(); ++i) {
    const auto& [y, scale] = references[i];
    if (static_cast<int64_t>(y.size() * sizeof(double)) != c.y64[i].bytes)
      base::fail("evaluate", "the reference of output '" + op.outputs[i].name + "' of op '" +
                                 op.name + "' has another size: mend its op.cpp");
    std::memcpy(memory + c.y64[i].offset, y.data(), y.size() * sizeof(double));
    auto* bounds = reinterpret_cast<float*>(memory + c.bound[i].offset);
    for (size_t k = 0; k < scale.size(); ++k)
      bounds[k] = allowed_error(bound, dtype, scale[k], protocol);
  }
}

}  // namespace

float allowed_error(const spec::ErrorBound& bound, spec::Dtype dtype, double scale,
                    const Protocol& protocol) {
  const double factor = bound.roundings * spec::unit_roundoff(dtype) + bound.accumulated * 0x1p-24;
  const double tiny = protocol.tiny_subnormals * spec::smallest_subnormal(dtype);
  const double allowed = std::isfinite(scale) ? factor * scale + tiny : tiny;
  return static_cast<float>(std::min(allowed, double{std::numeric_limits<float>::max()}));
}

void prepare_case(const spec::Op& op, spec::Dtype dtype, const Case& c, const Protocol& protocol,
                  std::byte* memory) {
  fill_inputs(op, dtype, c, pointers<void*>(memory, c.inputs));
  store_reference(op, dtype, c, protocol, memory);
  store_mlx(op, dtype, c, memory);
}

}  // namespace mlx_kd::evaluate
