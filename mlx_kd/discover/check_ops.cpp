#include "mlx_kd/discover/check_ops.h"

#include <cstring>
#include <optional>

#include "mlx/ops.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/evaluate/proof/inputs.h"
#include "mlx_kd/runtime/pins/operators.h"

namespace mlx_kd::discover {
namespace {

using Filled = std::vector<std::vector<std::byte>>;

Filled filled(const spec::Op& op, spec::Dtype t, evaluate::Case c, std::byte poison) {
  c.input_arrays = spec::arrays_of(op.inputs, t, c.dims);
  Filled result;
  std::vector<void*> inputs;
  for (const spec::ArraySpec& array : c.input_arrays) {
    result.emplace_back(static_cast<size_t>(array.bytes()), poison);
    inputs.push_back(result.back().data());
  }
  evaluate::fill_inputs(op, t, c, inputs);
  return result;
}

// The first byte that keeps two different poisons was not written.
std::optional<size_t> first_unset(const std::vector<std::byte>& a, const std::vector<std::byte>& b,
                                  std::byte poison_a, std::byte poison_b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i] == poison_a && b[i] == poison_b) return i;
  return std::nullopt;
}

void check_fill(const spec::Op& op, spec::Dtype t, const spec::Dims& dims,
                std::vector<std::string>& faults) {
  constexpr std::byte kFirst{0xaa}, kSecond{0x55};
  for (const auto distribution :
       {spec::Distribution::normal, spec::Distribution::magnitudes, spec::Distribution::special}) {
    evaluate::Case c{0, dims, 1, 0, distribution, spec::default_scalars(op)};
    const Filled first = filled(op, t, c, kFirst), second = filled(op, t, c, kSecond);
    for (size_t i = 0; i < first.size(); ++i) {
      const auto at = first_unset(first[i], second[i], kFirst, kSecond);
      if (!at) continue;
      const int64_t size = spec::size_of(op.inputs[i].type.at(t, dims));
      faults.push_back("fill: " + name_of(t) + ", " + dims.text() + ", " + name_of(distribution) +
                       ": element " + std::to_string(static_cast<int64_t>(*at) / size) +
                       " of input '" + op.inputs[i].name + "' is not written");
      return;
    }
  }
}

void check_signature(const spec::Op& op, spec::Dtype t, const spec::Dims& dims,
                     std::vector<std::string>& faults) {
  const std::string where = "signature: " + name_of(t) + ", " + dims.text() + ": ";
  try {
    std::vector<mlx::core::array> inputs;
    for (const spec::ArraySpec& array : spec::arrays_of(op.inputs, t, dims))
      inputs.push_back(
          mlx::core::zeros(devices::mlx_shape(array.shape), devices::mlx_dtype(array.type)));
    runtime::DimValues read = {};
    for (size_t i = 0; i < op.dims.size(); ++i)
      if (op.dims[i].kind == spec::Dim::Kind::attribute) read[i] = dims.at(op.dims[i].name);
    const runtime::Signature signature(op);
    if (!signature.readable()) {
      faults.push_back("signature: the size cannot be read off the arrays: give `signature`");
      return;
    }
    signature.read(runtime::Inputs(inputs), spec::default_scalars(op), read);
    const spec::Dims found = runtime::dims_of(op, read);
    if (!(found == dims)) faults.push_back(where + "it reads " + found.text());
    // An int replaces an array of one element.
    for (size_t i = 0; i < inputs.size(); ++i)
      if (op.inputs[i].int_range) inputs[i] = mlx::core::zeros({1}, inputs[i].dtype());
    signature.read(runtime::Inputs(inputs), spec::default_scalars(op), read);
  } catch (const std::exception& error) {
    faults.push_back(where + error.what());
  }
}

}  // namespace

std::vector<std::string> check_op(const spec::Op& op) {
  std::vector<std::string> faults = spec::faults_of(op);
  if (!faults.empty()) return faults;
  if (op.edge_sizes.empty()) faults.push_back("edge_sizes: there is none");
  for (const spec::Dims& given : op.edge_sizes)
    for (const spec::Dtype t : op.types) {
      const spec::Dims dims = spec::complete(op, given);
      check_fill(op, t, dims, faults);
      check_signature(op, t, dims, faults);
    }
  return faults;
}

}  // namespace mlx_kd::discover
