#include "mlx_kd/devices/device.h"

#include <algorithm>
#include <stdexcept>

#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {

namespace mx = mlx::core;

namespace {

using Arrays = std::vector<mx::array>;

// Whether a transformation may go through the call. Where none can, MLX's custom_function is but
// two nodes of the graph more for each output.
bool is_traced(const Arrays& inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const mx::array& input) { return input.is_tracer(); });
}

Arrays jvp_of(const MlxForm& form, const std::vector<double>& params, const mx::Stream& stream,
              const Arrays& primals, const Arrays& tangents, const std::vector<int>& argnums) {
  const auto of_some = [&](const Arrays& some) {
    Arrays all = primals;
    for (size_t i = 0; i < some.size(); ++i) all[static_cast<size_t>(argnums[i])] = some[i];
    return form(all, params, stream);
  };
  Arrays some;
  for (const int argnum : argnums) some.push_back(primals[static_cast<size_t>(argnum)]);
  return mx::jvp(of_some, some, tangents).second;
}

// Of a call with a gradient of its own, where MLX has nothing to differentiate.
const MlxForm& no_form() {
  static const auto& form = *new MlxForm([](const Arrays&, auto, const mx::Stream&) -> Arrays {
    throw std::invalid_argument(
        "[devices] the operation has no jvp and no vmap: MLX has no form of it");
  });
  return form;
}

}  // namespace

Prepared& Prepared::operator=(const Prepared&) {
  delete kept_.exchange(nullptr);
  return *this;
}

void Prepared::keep(uint64_t owner, std::shared_ptr<const void> made) const {
  const Kept* none = nullptr;
  std::unique_ptr<const Kept> kept(new Kept{owner, std::move(made)});
  if (kept_.compare_exchange_strong(none, kept.get(), std::memory_order_acq_rel)) kept.release();
}

Call make_call(const spec::Op& op, spec::Dtype t, const spec::Dims& dims,
               const std::vector<double>& scalars, std::vector<spec::Stage> stages) {
  Call call{dims, scalars, std::move(stages)};
  call.inputs = spec::arrays_of(op.inputs, t, dims);
  call.outputs = spec::arrays_of(op.outputs, t, dims);
  for (size_t i = 0; i < op.outputs.size(); ++i) call.updates.push_back(spec::updated_input(op, i));
  for (const spec::Port& port : op.inputs) call.strided.push_back(port.strided);
  for (const spec::Scalar& scalar : op.scalars) call.scalar_names.push_back(scalar.name);
  return call;
}

Call make_call(const spec::Op& op, const spec::Variant& variant, spec::Dtype t,
               const spec::Dims& dims, const spec::Setting& knobs,
               const std::vector<double>& scalars) {
  Call call = make_call(op, t, dims, scalars, spec::stages_of(variant, dims, knobs));
  call.scratch = spec::scratch_of(variant, t, dims, knobs);
  return call;
}

void check_types(const Device& device, const spec::Op& op, spec::Dtype t, const spec::Dims& dims) {
  spec::check_type(op, t);
  for (const auto* ports : {&op.inputs, &op.outputs})
    for (const spec::Port& port : *ports) {
      const spec::Dtype type = port.type.at(t, dims);
      if (!device.lacks(type)) continue;
      base::misuse("devices", "device '" + device.id().kind + "' lacks " + spec::name_of(type) +
                                  ", the type of '" + port.name + "' of op '" + op.name +
                                  "': choose another " +
                                  (port.type.follows() ? "type or device" : "device"));
    }
}

Arrays Program::add_to_graph(const Arrays& inputs, const std::vector<mx::Shape>& output_shapes,
                             const Call& call, const GraphCall& graph) const {
  if (graph.stream != mx::default_stream(graph.stream.device)) return {};
  const auto run = [this, output_shapes, call](const Arrays& in) {
    std::vector<spec::Shape> shapes;
    for (const mx::Shape& shape : output_shapes) shapes.emplace_back(shape.begin(), shape.end());
    return this->call(in, shapes, call);
  };
  if ((!graph.form && !graph.vjp) || !is_traced(inputs)) return run(inputs);
  const MlxForm& lasting = graph.form ? *graph.form : no_form();
  const auto form = [&lasting, params = call.scalars, stream = graph.stream](const Arrays& in) {
    return lasting(in, params, stream);
  };
  const auto vjp = [form, own = graph.vjp, scalars = call.scalars, stream = graph.stream](
                       const Arrays& primals, const Arrays& cotangents, const Arrays& outputs) {
    return own ? (*own)(primals, outputs, cotangents, scalars, stream)
               : mx::vjp(form, primals, cotangents).second;
  };
  const auto jvp = [&lasting, params = call.scalars, stream = graph.stream](
                       const Arrays& primals, const Arrays& tangents,
                       const std::vector<int>& argnums) {
    return jvp_of(lasting, params, stream, primals, tangents, argnums);
  };
  const auto vmap = [form](const Arrays& in, const std::vector<int>& axes) {
    Arrays outputs = mx::vmap(form, axes, {})(in);
    std::vector<int> out_axes(outputs.size(), 0);
    return std::make_pair(std::move(outputs), std::move(out_axes));
  };
  return mx::custom_function(run, vjp, jvp, vmap)(inputs);
}

Artifact Device::adopt(std::string_view, const spec::Candidate& candidate) const {
  base::fail("devices", "device '" + id().kind + "' takes no compiled object of '" +
                            candidate.op_name + "': use a pack with sources");
}

std::vector<DeviceKind> all_kinds() {
  std::vector<DeviceKind> kinds;
  for (MakeKind* make : kind_makers()) kinds.push_back(make());
  return kinds;
}

std::shared_ptr<const Device> open_device(const std::string& kind) {
  std::vector<std::string> known;
  for (const DeviceKind& entry : all_kinds()) {
    known.push_back(entry.kind);
    if (entry.kind != kind) continue;
    const DeviceReport report = entry.probe();
    if (report.available) return entry.open();
    base::misuse("devices", "device '" + kind + "' cannot be used here: " + report.detail);
  }
  base::misuse("devices", "device '" + kind + "' is not known: choose " + base::list_of(known));
}

std::string choose_device(const std::string& name) {
  const size_t colon = name.find(':');
  if (colon == name.npos) return name;
  const std::string kind = name.substr(0, colon), index = name.substr(colon + 1);
  for (const DeviceKind& entry : all_kinds()) {
    if (entry.kind != kind || !entry.choose) continue;
    const bool is_number =
        !index.empty() && index.size() < 5 && index.find_first_not_of("0123456789") == index.npos;
    if (!is_number)
      base::misuse("devices", "device '" + name + "': '" + index +
                                  "' is not an index: give a whole number, as in " + kind + ":1");
    entry.choose(std::stoi(index));
    return kind;
  }
  base::misuse("devices", "device '" + name + "': devices of kind '" + kind +
                              "' have no index: leave out ':" + index + "'");
}

std::shared_ptr<const OperationGroup> group_operations(
    const std::vector<mlx::core::array>& inputs, const std::vector<mlx::core::array>& outputs) {
  for (const DeviceKind& entry : all_kinds())
    if (entry.group)
      if (auto group = entry.group(inputs, outputs)) return group;
  return nullptr;
}

bool copies_updates(const std::string& kind) {
  for (const DeviceKind& entry : all_kinds())
    if (entry.kind == kind) return entry.copies_updates;
  return false;
}

std::vector<DeviceReport> list_devices() {
  std::vector<DeviceReport> reports;
  for (const DeviceKind& entry : all_kinds()) reports.push_back(entry.probe());
  return reports;
}

}  // namespace mlx_kd::devices
