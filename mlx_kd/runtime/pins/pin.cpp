#include "mlx_kd/runtime/pins/pin.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/runtime/pins/launches.h"

namespace mlx_kd::runtime {
namespace {

std::string text_of(double value) {
  return base::canonical_json(base::Json(value));
}

std::string where(const std::string& field, const std::string& here, const std::string& pin) {
  return field + ": " + here + " here, " + pin + " in the pin";
}

const Range* range_of(const Pin& pin, size_t dim) {
  for (const Range& range : pin.ranges)
    if (range.dim == dim) return &range;
  return nullptr;
}

// Ports as zmlx.kd calls a body; where its bodies are flat, they have one axis.
base::Json ports_at(const base::Json& stored, const std::vector<spec::Port>& ports,
                    spec::Dtype dtype, const spec::Dims& dims, bool flat) {
  base::Json result = spec::ports_spec(ports, dtype, dims);
  for (size_t i = 0; i < ports.size(); ++i) {
    if (stored[i].is_object() && stored[i].contains("name")) result[i]["name"] = stored[i]["name"];
    if (flat) result[i]["shape"] = {spec::element_count(ports[i].shape(dims))};
  }
  return result;
}

std::shared_ptr<Kernel> kernel_at(const Pin& pin, const spec::Dims& dims) {
  if (!pin.reads_shapes) return pin.kernel;
  const spec::Op& op = *pin.op->op;
  const packs::Entry& entry = pin.entry;
  const auto dtype = static_cast<spec::Dtype>(pin.key.dtype);
  const base::Json kind = entry.launch_params.value("launch_kind", base::Json());
  const spec::BodyLaunch* body =
      kind.is_string() ? kernels::body_launch_of(kind.get<std::string>()) : nullptr;
  const bool flat = body && body->flat_ports;
  return pin.kernel->with_shapes(ports_at(entry.inputs_spec, op.inputs, dtype, dims, flat),
                                 ports_at(entry.outputs_spec, op.outputs, dtype, dims, flat));
}

}  // namespace

std::shared_ptr<const Served> serve(const Pin& pin, size_t index, const Query& query) {
  const spec::Op& op = *pin.op->op;
  auto served = std::make_shared<Served>();
  served->pin = index;
  served->dtype = static_cast<spec::Dtype>(pin.key.dtype);
  const spec::Dims dims = dims_of(op, query.dims);
  served->kernel = kernel_at(pin, dims);
  const std::vector<double> scalars(query.params.begin(),
                                    query.params.begin() + static_cast<long>(op.scalars.size()));
  served->call = call_of(pin.entry, op, served->dtype, dims, scalars);
  for (const spec::ArraySpec& output : served->call.outputs)
    served->outputs.push_back(output.shape);
  return served;
}

bool holds(const Pin& pin, const DimValues& dims) {
  if (pin.any_size || dims == pin.key.dims) return true;
  DimValues rest = dims;
  for (const Range& range : pin.ranges) {
    if (dims[range.dim] < range.lo || dims[range.dim] > range.hi) return false;
    rest[range.dim] = pin.key.dims[range.dim];
  }
  return rest == pin.key.dims;
}

std::string shape_of(const Pin& pin) {
  if (pin.any_size) return "any size";
  const std::vector<std::string> names = pin.op->op->dim_names();
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    const Range* range = range_of(pin, i);
    text += (i ? "," : "") + names[i] + "=" +
            (range ? std::to_string(range->lo) + ".." + std::to_string(range->hi)
                   : std::to_string(pin.key.dims[i]));
  }
  return text;
}

std::vector<std::string> differences(const Pin& pin, const Query& query) {
  std::vector<std::string> found;
  const spec::Op& op = *pin.op->op;
  if (pin.key.place != query.place)
    found.push_back(where("device", query.place ? "gpu" : "cpu", pin.key.place ? "gpu" : "cpu"));
  if (pin.key.dtype != query.dtype)
    found.push_back(where("dtype", spec::name_of(static_cast<spec::Dtype>(query.dtype)),
                          spec::name_of(static_cast<spec::Dtype>(pin.key.dtype))));
  for (size_t i = 0; i < op.dims.size() && !pin.any_size; ++i) {
    const Range* range = range_of(pin, i);
    const bool in_range = range && query.dims[i] >= range->lo && query.dims[i] <= range->hi;
    if (query.dims[i] != pin.key.dims[i] && !in_range)
      found.push_back(
          where(op.dims[i].name, std::to_string(query.dims[i]), std::to_string(pin.key.dims[i])));
  }
  for (size_t i = 0; i < op.scalars.size() && pin.fixed_params; ++i)
    if (query.params[i] != pin.params[i])
      found.push_back(where(op.scalars[i].name, text_of(query.params[i]), text_of(pin.params[i])));
  return found;
}

}  // namespace mlx_kd::runtime
