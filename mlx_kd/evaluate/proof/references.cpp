#include "mlx_kd/evaluate/proof/references.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "mlx/device.h"
#include "mlx/stream.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/inputs.h"
#include "mlx_kd/evaluate/proof/mlx_arrays.h"

namespace mlx_kd::evaluate {
namespace {

template <class Pointer>
std::vector<Pointer> input_pointers(std::byte* memory, const Case& c) {
  std::vector<Pointer> result;
  for (const Span& span : c.inputs) result.push_back(memory + span.offset);
  return result;
}

[[noreturn]] void refuse(const spec::Op& op, size_t output, const std::string& what) {
  base::fail("evaluate",
             "output '" + op.outputs[output].name + "' of op '" + op.name + "' " + what);
}

std::vector<mx::array> mlx_results(const spec::Op& op, const Case& c, const std::byte* memory,
                                   const mx::Stream& stream) {
  spec::Op::Arrays inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i)
    inputs.push_back(to_mlx(memory + c.inputs[i].offset, c.input_arrays[i]));
  return evaluated(op.mlx(inputs, spec::numbers_of(op, c.scalars, c.dims), stream), c, op);
}

// On the default device, or on the CPU where MLX lacks the op there.
std::vector<mx::array> mlx_results(const spec::Op& op, const Case& c, const std::byte* memory) {
  const mx::Device device = mx::default_device();
  try {
    return mlx_results(op, c, memory, mx::default_stream(device));
  } catch (const base::Error&) {
    throw;  // the op contradicts itself
  } catch (const std::exception&) {
    if (device == mx::Device::cpu) throw;
  }
  return mlx_results(op, c, memory, mx::default_stream(mx::Device::cpu));
}

void store_mlx(const spec::Op& op, const Case& c, std::byte* memory) {
  const auto outputs = mlx_results(op, c, memory);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Span& to = c.outputs[i].expected;
    if (static_cast<int64_t>(outputs[i].nbytes()) != c.outputs[i].array.bytes())
      refuse(op, i, "has another shape in MLX: correct its op.cpp");
    if (to.bytes > 0) std::memcpy(memory + to.offset, outputs[i].data<char>(), outputs[i].nbytes());
  }
}

bool asks_mlx(const spec::Op& op, const spec::Dims& dims) {
  return op.mlx && !(op.is_sampled && op.is_sampled(dims));
}

void store_bound(const spec::Op& op, const Case& c, size_t output, const spec::Reference64& made,
                 const Protocol& protocol, std::byte* memory) {
  const OutputSpans& spans = c.outputs[output];
  const size_t count = static_cast<size_t>(spans.array.elements());
  if (made.y.size() != count || made.rounded.size() != count || made.terms.size() != count ||
      (!made.absolute.empty() && made.absolute.size() != count))
    refuse(op, output, "has a reference of another size: correct its op.cpp");
  std::memcpy(memory + spans.y64.offset, made.y.data(), count * sizeof(double));
  const double accumulated = op.bound(c.dims).accumulated;
  auto* bounds = reinterpret_cast<float*>(memory + spans.bound.offset);
  for (size_t k = 0; k < count; ++k)
    bounds[k] = allowed_error(made, k, accumulated, spans.array.type, protocol);
  auto* terms = reinterpret_cast<float*>(memory + spans.terms.offset);
  for (size_t k = 0; k < count && spans.terms.bytes > 0; ++k)
    terms[k] = static_cast<float>(made.terms[k]);
  if (asks_mlx(op, c.dims)) return;
  for (size_t k = 0; k < count; ++k)
    spec::store_element(memory + spans.expected.offset, static_cast<int64_t>(k), spans.array.type,
                        static_cast<float>(made.y[k]));
}

void store_reference(const spec::Op& op, spec::Dtype t, const Case& c, const Protocol& protocol,
                     std::byte* memory) {
  const auto references =
      op.reference(input_pointers<const void*>(memory, c), t, c.dims, c.scalars);
  if (references.size() != op.outputs.size())
    base::fail("evaluate", "op '" + op.name + "' has " + std::to_string(references.size()) +
                               " references and " + std::to_string(op.outputs.size()) +
                               " outputs: correct its op.cpp");
  for (size_t i = 0; i < references.size(); ++i)
    if (op.outputs[i].judge == spec::Judge::bound)
      store_bound(op, c, i, references[i], protocol, memory);
}

}  // namespace

float allowed_error(const spec::Reference64& reference, size_t k, double accumulated,
                    spec::Dtype type, const Protocol& protocol) {
  const double tiny = protocol.tiny_subnormals * spec::smallest_subnormal(type);
  const double charged = spec::unit_roundoff(type) * reference.rounded[k] +
                         accumulated * 0x1p-24 * reference.terms[k] +
                         (reference.absolute.empty() ? 0 : reference.absolute[k]);
  const double allowed = std::isfinite(charged) ? charged + tiny : tiny;
  return static_cast<float>(std::min(allowed, double{std::numeric_limits<float>::max()}));
}

void prepare_inputs(const spec::Op& op, spec::Dtype t, const Case& c, std::byte* memory) {
  fill_inputs(op, t, c, input_pointers<void*>(memory, c));
}

void prepare_case(const spec::Op& op, spec::Dtype t, const Case& c, const Protocol& protocol,
                  std::byte* memory) {
  prepare_inputs(op, t, c, memory);
  if (asks_mlx(op, c.dims) &&
      (judged_by(op, spec::Judge::bound) || judged_by(op, spec::Judge::exact)))
    store_mlx(op, c, memory);
  if (op.exact) {
    std::vector<void*> to;
    for (size_t i = 0; i < op.outputs.size(); ++i)
      to.push_back(op.outputs[i].judge == spec::Judge::exact ? memory + c.outputs[i].expected.offset
                                                             : nullptr);
    op.exact(input_pointers<const void*>(memory, c), t, c.dims, c.scalars, to);
  }
  if (judged_by(op, spec::Judge::bound)) store_reference(op, t, c, protocol, memory);
}

}  // namespace mlx_kd::evaluate
