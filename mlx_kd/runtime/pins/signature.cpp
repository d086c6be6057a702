#include "mlx_kd/runtime/pins/signature.h"

#include <algorithm>
#include <stdexcept>

#include "mlx_kd/base/error.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using DimValues = std::array<int64_t, kMostDims>;

// Distinct, and multiples of what ops ask of a size (pairs, groups of 128); two values per dim.
int64_t telling(size_t dim, bool second) {
  constexpr int64_t primes[2][kMostDims] = {
      {1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093,
       1097},
      {2003, 2011, 2017, 2027, 2029, 2039, 2053, 2063, 2069, 2081, 2083, 2087, 2089, 2099, 2111,
       2113}};
  return 256 * primes[second][dim];
}

DimValues telling_values(const spec::Op& op, bool second) {
  DimValues values = {};
  for (size_t i = 0; i < op.dims.size(); ++i) values[i] = telling(i, second);
  return values;
}

template <class Numbers>
std::string list_text(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return "(" + text + ")";
}

}  // namespace

std::string shape_text(const mx::Shape& shape) {
  return list_text(shape);
}

spec::Dims dims_of(const spec::Op& op, const DimValues& dims) {
  spec::Dims given;
  for (size_t i = 0; i < op.dims.size(); ++i) given.set(op.dims[i].name, dims[i]);
  return spec::complete(op, given);
}

Signature::Signature(const spec::Op& op) : op_(&op) {
  if (op.dims.empty() || op.dims.size() > kMostDims || op.scalars.size() > kMostParams) return;
  try {
    readable_ = find_axes() && find_sources();
  } catch (const base::Error&) {
    readable_ = false;  // the op refuses sizes like these
  }
}

bool Signature::find_axes() {
  constexpr int64_t kMostParts = 8;
  const spec::Dims first = dims_of(*op_, telling_values(*op_, false));
  const spec::Dims second = dims_of(*op_, telling_values(*op_, true));
  const bool any_rows = op_->dims.front().leading;
  for (const spec::Port& port : op_->inputs) {
    const spec::Shape a = port.shape(first), b = port.shape(second);
    Port axes;
    for (size_t i = 0; i < a.size(); ++i) {
      Axis axis{-1, a[i], false};
      for (size_t dim = 0; dim < op_->dims.size(); ++dim)
        for (int64_t parts = 1; parts <= kMostParts; ++parts)
          if (a[i] * parts == telling(dim, false) && b[i] * parts == telling(dim, true))
            axis = {static_cast<int>(dim), parts, any_rows && dim == 0 && parts == 1 && i == 0};
      if (axis.dim < 0 && a[i] != b[i]) return false;
      axes.push_back(axis);
    }
    inputs_.push_back(std::move(axes));
  }
  for (const spec::Port& port : op_->outputs) {
    const spec::Shape shape = port.shape(first);
    rows_outputs_.push_back(any_rows && !shape.empty() && shape.front() == telling(0, false));
  }
  return true;
}

bool Signature::find_sources() {
  for (size_t dim = 0; dim < op_->dims.size(); ++dim) {
    const size_t before = sources_.size();
    for (size_t port = 0; port < inputs_.size() && sources_.size() == before; ++port)
      for (size_t axis = 0; axis < inputs_[port].size() && sources_.size() == before; ++axis)
        if (inputs_[port][axis].dim == static_cast<int>(dim) && inputs_[port][axis].factor == 1)
          sources_.push_back({port, axis});
    if (sources_.size() == before) return false;
  }
  // Arrays are compared with those that come first.
  return !std::any_of(inputs_.begin(), inputs_.end(), holds_rows) || holds_rows(inputs_.front());
}

bool Signature::has_axes(size_t port, const mx::array& input) const {
  const size_t wanted = inputs_[port].size();
  return holds_rows(inputs_[port]) ? input.ndim() + 1 >= wanted && input.ndim() > 0
                                   : input.ndim() == wanted;
}

void Signature::read(const std::vector<mx::array>& inputs, DimValues& dims) const {
  if (inputs.size() != inputs_.size()) refuse_count(inputs.size());
  for (size_t port = 0; port < inputs.size(); ++port)
    if (!has_axes(port, inputs[port])) refuse_axes(port, inputs[port]);
  for (size_t dim = 0; dim < sources_.size(); ++dim) {
    const Port& axes = inputs_[sources_[dim].port];
    const mx::Shape& shape = inputs[sources_[dim].port].shape();
    const size_t behind = axes.size() - 1 - sources_[dim].axis;
    if (axes[sources_[dim].axis].rows) {
      dims[dim] = 1;
      for (size_t i = 0; i + behind < shape.size(); ++i) dims[dim] *= shape[i];
    } else {
      dims[dim] = shape[shape.size() - 1 - behind];
    }
  }
  for (size_t port = 0; port < inputs.size(); ++port)
    if (!fits(port, inputs, dims)) refuse_fit(port, inputs, dims);
}

bool Signature::fits(size_t port, const std::vector<mx::array>& inputs,
                     const DimValues& dims) const {
  const Port& axes = inputs_[port];
  const mx::Shape& shape = inputs[port].shape();
  const size_t rows = holds_rows(axes);
  for (size_t i = rows; i < axes.size(); ++i) {
    const int64_t size = shape[shape.size() - axes.size() + i];
    if (axes[i].dim < 0 ? size != axes[i].factor
                        : size * axes[i].factor != dims[static_cast<size_t>(axes[i].dim)])
      return false;
  }
  if (!rows || port == 0) return true;
  const mx::Shape& first = inputs.front().shape();
  const size_t leading = shape.size() - (axes.size() - 1);
  return leading == first.size() - (inputs_.front().size() - 1) &&
         std::equal(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(leading),
                    first.begin());
}

std::vector<mx::Shape> Signature::output_shapes(const std::vector<mx::array>& inputs,
                                                const std::vector<spec::Shape>& ports) const {
  const mx::Shape& first = inputs.front().shape();
  const auto rows_end =
      first.begin() + static_cast<std::ptrdiff_t>(first.size() + 1 - inputs_.front().size());
  std::vector<mx::Shape> shapes;
  shapes.reserve(ports.size());
  for (size_t i = 0; i < ports.size(); ++i) {
    mx::Shape shape;
    if (rows_outputs_[i]) shape.insert(shape.end(), first.begin(), rows_end);
    for (size_t axis = rows_outputs_[i]; axis < ports[i].size(); ++axis)
      shape.push_back(static_cast<mx::ShapeElem>(ports[i][axis]));
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

void Signature::refuse_count(size_t count) const {
  std::string names;
  for (const spec::Port& port : op_->inputs) names += (names.empty() ? "" : ", ") + port.name;
  throw std::invalid_argument("[" + op_->name + "] " + std::to_string(count) +
                              " inputs were given: it takes " + std::to_string(inputs_.size()) +
                              ", " + names);
}

void Signature::refuse_axes(size_t port, const mx::array& input) const {
  const size_t wanted = inputs_[port].size();
  const size_t least = std::max<size_t>(1, wanted - 1);
  throw std::invalid_argument(
      "[" + op_->name + "] " + op_->inputs[port].name + " has shape " + shape_text(input.shape()) +
      ": it must have " +
      (holds_rows(inputs_[port]) ? "at least " + std::to_string(least) : std::to_string(wanted)) +
      " axes");
}

void Signature::refuse_parts(size_t dim, int64_t parts,
                             const std::vector<mx::array>& inputs) const {
  const size_t port = sources_[dim].port;
  throw std::invalid_argument("[" + op_->name + "] " + op_->inputs[port].name + " has shape " +
                              shape_text(inputs[port].shape()) + ": its " + op_->dims[dim].name +
                              " must be a multiple of " + std::to_string(parts));
}

std::vector<int64_t> Signature::expected(const Port& port, const DimValues& dims) const {
  std::vector<int64_t> shape;
  for (const Axis& axis : port)
    shape.push_back(axis.dim < 0 ? axis.factor : dims[static_cast<size_t>(axis.dim)] / axis.factor);
  return shape;
}

void Signature::refuse_fit(size_t port, const std::vector<mx::array>& inputs,
                           const DimValues& dims) const {
  for (const Axis& axis : inputs_[port])
    if (axis.dim >= 0 && dims[static_cast<size_t>(axis.dim)] % axis.factor != 0)
      refuse_parts(static_cast<size_t>(axis.dim), axis.factor, inputs);
  std::vector<int64_t> shape = expected(inputs_[port], dims);
  if (holds_rows(inputs_[port])) {
    const mx::Shape& first = inputs.front().shape();
    shape.erase(shape.begin());
    shape.insert(shape.begin(), first.begin(),
                 first.end() - static_cast<std::ptrdiff_t>(inputs_.front().size() - 1));
  }
  // A port that gives dims is at fault only in its constants: the others are what it is held to.
  const size_t other = port == 0 ? (inputs.size() > 1 ? 1 : 0) : 0;
  throw std::invalid_argument("[" + op_->name + "] " + op_->inputs[port].name + " has shape " +
                              shape_text(inputs[port].shape()) + ": it must be " +
                              list_text(shape) + ", as " + op_->inputs[other].name + " has shape " +
                              shape_text(inputs[other].shape()));
}

}  // namespace mlx_kd::runtime
