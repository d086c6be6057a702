#include "mlx_kd/runtime/pins/signature.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "mlx/utils.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

constexpr int64_t kMostParts = 8;

// Sizes that tell the dims apart: distinct, two values per dim, and multiples of what ops ask of a
// size. The large ones first; the small ones serve an op that has a limit.
struct Telling {
  int64_t first[kMostDims], second[kMostDims], factor;
};
constexpr Telling kTelling[] = {
    {{1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093,
      1097},
     {2003, 2011, 2017, 2027, 2029, 2039, 2053, 2063, 2069, 2081, 2083, 2087, 2089, 2099, 2111,
      2113},
     256},
    {{59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131},
     {137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223},
     2}};

DimValues telling_values(const spec::Op& op, const int64_t* primes, int64_t factor) {
  DimValues values = {};
  for (size_t i = 0; i < op.dims.size(); ++i)
    values[i] = op.dims[i].kind == spec::Dim::Kind::attribute ? op.dims[i].default_value
                                                              : factor * primes[i];
  return values;
}

template <class Numbers>
std::string list_text(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return "(" + text + ")";
}

bool is_dim(const spec::Dim& dim) {
  return dim.kind == spec::Dim::Kind::dim;
}

}  // namespace

std::optional<spec::Dtype> element_type(const mx::array& array) {
  switch (array.dtype().val()) {
    case mx::Dtype::Val::float32:
      return spec::Dtype::float32;
    case mx::Dtype::Val::float16:
      return spec::Dtype::float16;
    case mx::Dtype::Val::bfloat16:
      return spec::Dtype::bfloat16;
    case mx::Dtype::Val::float64:
      return spec::Dtype::float64;
    case mx::Dtype::Val::int32:
      return spec::Dtype::int32;
    case mx::Dtype::Val::uint32:
      return spec::Dtype::uint32;
    case mx::Dtype::Val::int64:
      return spec::Dtype::int64;
    case mx::Dtype::Val::uint8:
      return spec::Dtype::uint8;
    case mx::Dtype::Val::bool_:
      return spec::Dtype::boolean;
    default:
      return std::nullopt;
  }
}

std::string type_text(const mx::array& array) {
  std::ostringstream text;
  text << array.dtype();
  return text.str();
}

bool is_absent(const spec::Port& port, const mx::array& array) {
  return port.optional && array.ndim() == 1 && array.shape(0) == 0;
}

std::string shape_text(const mx::Shape& shape) {
  return list_text(shape);
}

spec::Dims dims_of(const spec::Op& op, const DimValues& dims) {
  spec::Dims given;
  for (size_t i = 0; i < op.dims.size(); ++i) given.set(op.dims[i].name, dims[i]);
  return spec::complete(op, given);
}

Signature::Signature(const spec::Op& op) : op_(&op) {
  readable_ = bool(op.signature);
  try {
    find_leading();
  } catch (const base::Error&) {  // the op refuses sizes like these
    readable_ = false;
    return;
  }
  for (const Telling& values : kTelling) {
    if (readable_) break;
    try {
      readable_ = find_axes(telling_values(op, values.first, values.factor),
                            telling_values(op, values.second, values.factor)) &&
                  find_sources();
    } catch (const base::Error&) {  // the op refuses sizes like these
    }
  }
}

// The ports whose first axis follows the leading dim, seen at two sizes that differ in it alone.
void Signature::find_leading() {
  leading_inputs_.assign(op_->inputs.size(), false);
  leading_outputs_.assign(op_->outputs.size(), false);
  if (op_->dims.empty() || !op_->dims.front().leading || op_->suites.empty()) return;
  const std::string& name = op_->dims.front().name;
  const spec::Dims& some = op_->suites.front().sizes.front();
  const auto size_with = [&](int64_t value) {
    spec::Dims given;
    for (const spec::Dim& dim : op_->dims)
      given.set(dim.name, dim.name == name ? value : some.at(dim.name));
    return spec::complete(*op_, given);
  };
  const spec::Dims first = size_with(3), second = size_with(7);
  const auto leads = [&](const spec::Port& port) {
    const spec::Shape a = port.shape(first), b = port.shape(second);
    return !a.empty() && !b.empty() && a.front() == 3 && b.front() == 7;
  };
  for (size_t i = op_->inputs.size(); i-- > 0;) {
    leading_inputs_[i] = leads(op_->inputs[i]);
    if (leading_inputs_[i]) behind_ = op_->inputs[i].shape(first).size() - 1;
  }
  for (size_t i = 0; i < op_->outputs.size(); ++i) leading_outputs_[i] = leads(op_->outputs[i]);
}

bool Signature::find_axes(const DimValues& first_values, const DimValues& second_values) {
  const spec::Dims first = dims_of(*op_, first_values), second = dims_of(*op_, second_values);
  inputs_.clear();
  for (size_t port = 0; port < op_->inputs.size(); ++port) {
    const spec::Shape a = op_->inputs[port].shape(first), b = op_->inputs[port].shape(second);
    Port found{leading_inputs_[port], {}};
    for (size_t i = 0; i < a.size(); ++i) {
      Axis axis{-1, a[i]};
      for (size_t dim = 0; dim < op_->dims.size(); ++dim)
        for (int64_t parts = 1; parts <= kMostParts && is_dim(op_->dims[dim]); ++parts)
          if (a[i] * parts == first_values[dim] && b[i] * parts == second_values[dim])
            axis = {static_cast<int>(dim), parts};
      if (axis.dim < 0 && a[i] != b[i]) return false;
      found.axes.push_back(axis);
    }
    inputs_.push_back(std::move(found));
  }
  return true;
}

bool Signature::find_sources() {
  sources_.clear();
  for (size_t dim = 0; dim < op_->dims.size(); ++dim) {
    if (!is_dim(op_->dims[dim])) continue;
    const size_t before = sources_.size();
    for (size_t port = 0; port < inputs_.size() && sources_.size() == before; ++port) {
      const std::vector<Axis>& axes = inputs_[port].axes;
      for (size_t axis = 0; axis < axes.size() && sources_.size() == before; ++axis)
        if (axes[axis].dim == static_cast<int>(dim) && axes[axis].factor == 1)
          sources_.push_back({dim, port, axes.size() - 1 - axis, inputs_[port].leads && axis == 0});
    }
    if (sources_.size() == before) return false;
  }
  // Arrays are compared with those that come first.
  return inputs_.empty() || inputs_.front().leads ||
         std::none_of(inputs_.begin(), inputs_.end(), [](const Port& port) { return port.leads; });
}

bool Signature::has_axes(size_t port, const mx::array& input) const {
  const size_t wanted = inputs_[port].axes.size();
  return inputs_[port].leads ? input.ndim() + 1 >= wanted && input.ndim() > 0
                             : input.ndim() == wanted;
}

void Signature::check_count(size_t count) const {
  if (count == op_->inputs.size()) return;
  std::string names;
  for (const spec::Port& port : op_->inputs) names += (names.empty() ? "" : ", ") + port.name;
  throw std::invalid_argument("[" + op_->name + "] " + std::to_string(count) +
                              " inputs were given: it takes " + std::to_string(op_->inputs.size()) +
                              ", " + names);
}

// Of arrays that have the axes.
void Signature::read_sources(const Inputs& inputs, DimValues& dims) const {
  for (const Source& source : sources_) {
    const mx::Shape& shape = inputs[source.port].shape();
    if (source.leads) {
      int64_t product = 1;
      for (size_t i = 0; i + source.behind < shape.size(); ++i)
        if (__builtin_mul_overflow(product, shape[i], &product)) refuse_size(source.port, shape);
      dims[source.dim] = product;
    } else {
      dims[source.dim] = shape[shape.size() - 1 - source.behind];
    }
  }
}

bool Signature::takes(const Inputs& inputs, DimValues& dims) const {
  if (inputs.size() != inputs_.size()) return false;
  for (size_t port = 0; port < inputs_.size(); ++port)
    if (!has_axes(port, inputs[port])) return false;
  read_sources(inputs, dims);
  for (size_t port = 0; port < inputs_.size(); ++port)
    if (!fits(port, inputs, dims)) return false;
  return true;
}

void Signature::read(const Inputs& inputs, std::span<const double> scalars, DimValues& dims) const {
  if (op_->signature)
    read_by_own(inputs, scalars, dims);
  else if (!takes(inputs, dims))
    refuse(inputs, dims);
}

// A type that ports cannot have is that of no port: who calls has seen to it.
void Signature::read_by_own(const Inputs& inputs, std::span<const double> scalars,
                            DimValues& dims) const {
  std::array<spec::ArrayView, spec::kMostInputs> views;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const mx::Shape& shape = inputs[i].shape();
    views[i] = {{shape.data(), shape.size()},
                element_type(inputs[i]).value_or(spec::Dtype::float32)};
  }
  op_->signature({views.data(), inputs.size()}, scalars, {dims.data(), op_->dims.size()});
}

bool Signature::fits(size_t port, const Inputs& inputs, const DimValues& dims) const {
  const std::vector<Axis>& axes = inputs_[port].axes;
  const mx::Shape& shape = inputs[port].shape();
  const size_t leads = inputs_[port].leads;
  for (size_t i = leads; i < axes.size(); ++i) {
    const int64_t size = shape[shape.size() - axes.size() + i];
    if (axes[i].dim < 0 ? size != axes[i].factor
                        : size * axes[i].factor != dims[static_cast<size_t>(axes[i].dim)])
      return false;
  }
  if (!leads || port == 0) return true;
  const mx::Shape& first = inputs[0].shape();
  const size_t leading = shape.size() - (axes.size() - 1);
  return leading == first.size() - (inputs_.front().axes.size() - 1) &&
         std::equal(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(leading),
                    first.begin());
}

std::vector<mx::Shape> Signature::output_shapes(const std::vector<mx::array>& inputs,
                                                const std::vector<spec::Shape>& ports) const {
  // The leading axes are those of the first input that has them.
  mx::Shape leading;
  const auto from = std::find(leading_inputs_.begin(), leading_inputs_.end(), true);
  if (from != leading_inputs_.end()) {
    const auto port = static_cast<size_t>(from - leading_inputs_.begin());
    const mx::Shape& shape = inputs[port].shape();
    leading.insert(leading.end(), shape.begin(),
                   shape.end() - static_cast<std::ptrdiff_t>(std::min(behind_, shape.size())));
  }
  std::vector<mx::Shape> shapes;
  shapes.reserve(ports.size());
  for (size_t i = 0; i < ports.size(); ++i) {
    mx::Shape shape;
    // What depends on an input that was left out has no elements, and no leading axes either.
    const bool leads = leading_outputs_[i] && ports[i] != spec::Shape{0};
    if (leads) shape.insert(shape.end(), leading.begin(), leading.end());
    for (size_t axis = leads; axis < ports[i].size(); ++axis) {
      if (ports[i][axis] > std::numeric_limits<mx::ShapeElem>::max())
        throw std::invalid_argument("[" + op_->name + "] " + op_->outputs[i].name +
                                    " would have an axis of " + std::to_string(ports[i][axis]) +
                                    " elements, more than MLX takes: split the arrays");
      shape.push_back(static_cast<mx::ShapeElem>(ports[i][axis]));
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

void Signature::refuse(const Inputs& inputs, DimValues& dims) const {
  check_count(inputs.size());
  for (size_t port = 0; port < inputs.size(); ++port)
    if (!has_axes(port, inputs[port])) refuse_axes(port, inputs[port]);
  for (size_t port = 0; port < inputs.size(); ++port)
    if (!fits(port, inputs, dims)) refuse_fit(port, inputs, dims);
  throw std::invalid_argument("[" + op_->name + "] its arrays do not go together");
}

void Signature::refuse_size(size_t port, const mx::Shape& shape) const {
  throw std::invalid_argument("[" + op_->name + "] " + op_->inputs[port].name + " has shape " +
                              shape_text(shape) +
                              ": these are more elements than an array can have");
}

void Signature::refuse_axes(size_t port, const mx::array& input) const {
  const size_t wanted = inputs_[port].axes.size();
  const size_t least = std::max<size_t>(1, wanted - 1);
  throw std::invalid_argument(
      "[" + op_->name + "] " + op_->inputs[port].name + " has shape " + shape_text(input.shape()) +
      ": it must have " +
      (inputs_[port].leads ? "at least " + std::to_string(least) : std::to_string(wanted)) +
      " axes");
}

void Signature::refuse_parts(size_t dim, int64_t parts, const Inputs& inputs) const {
  const auto source = std::find_if(sources_.begin(), sources_.end(),
                                   [&](const Source& one) { return one.dim == dim; });
  throw std::invalid_argument("[" + op_->name + "] " + op_->inputs[source->port].name +
                              " has shape " + shape_text(inputs[source->port].shape()) + ": its " +
                              op_->dims[dim].name + " must be a multiple of " +
                              std::to_string(parts));
}

std::vector<int64_t> Signature::expected(const Port& port, const DimValues& dims) const {
  std::vector<int64_t> shape;
  for (const Axis& axis : port.axes)
    shape.push_back(axis.dim < 0 ? axis.factor : dims[static_cast<size_t>(axis.dim)] / axis.factor);
  return shape;
}

void Signature::refuse_fit(size_t port, const Inputs& inputs, const DimValues& dims) const {
  for (const Axis& axis : inputs_[port].axes)
    if (axis.dim >= 0 && dims[static_cast<size_t>(axis.dim)] % axis.factor != 0)
      refuse_parts(static_cast<size_t>(axis.dim), axis.factor, inputs);
  std::vector<int64_t> shape = expected(inputs_[port], dims);
  if (inputs_[port].leads) {
    const mx::Shape& first = inputs[0].shape();
    shape.erase(shape.begin());
    shape.insert(shape.begin(), first.begin(),
                 first.end() - static_cast<std::ptrdiff_t>(inputs_.front().axes.size() - 1));
  }
  // A port that gives dims is at fault only in its constants: the others are what it is held to.
  const size_t other = port == 0 ? (inputs.size() > 1 ? 1 : 0) : 0;
  throw std::invalid_argument("[" + op_->name + "] " + op_->inputs[port].name + " has shape " +
                              shape_text(inputs[port].shape()) + ": it must be " +
                              list_text(shape) + ", as " + op_->inputs[other].name + " has shape " +
                              shape_text(inputs[other].shape()));
}

}  // namespace mlx_kd::runtime
