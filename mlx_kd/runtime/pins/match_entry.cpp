// Whether an entry can be used by this process, field by field, the first that does not fit named.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>

#include "mlx/version.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/runtime/pins/bundle.h"
#include "mlx_kd/runtime/pins/launches.h"
#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::runtime {
namespace {

constexpr double kMostElements = 1LL << 47;

[[noreturn]] void refuse(const std::string& why) {
  base::misuse("runtime", why);
}

// In files of schema 1 "unknown" matches anything.
bool matches(const packs::Entry& entry, const std::string& field, const std::string& here) {
  return field == here || (entry.loose && field == "unknown");
}

void check_versions(const packs::Entry& entry, bool allow_approximate) {
  if (packs::is_null(entry)) refuse("its times were invented by the null device");
  if (entry.approximate && !allow_approximate)
    refuse("it is approximate: MLX_KD_ALLOW_APPROXIMATE=1 uses it too");
  if (!matches(entry, entry.key.mlx_version, mlx::core::version()))
    refuse("for MLX " + entry.key.mlx_version + ", not " + mlx::core::version() +
           ": kd revalidate proves it again");
}

bool has_all(const base::Json& wanted, const base::Json& here) {
  return wanted.is_array() && std::all_of(wanted.begin(), wanted.end(), [&](const base::Json& one) {
           return std::find(here.begin(), here.end(), one) != here.end();
         });
}

// Every field of the target must be met; one that is not known is not.
std::string misfit(const base::Json& target, const spec::DeviceId& device) {
  for (const auto& [name, value] : target.items()) {
    const base::Json here = device.target.value(name, base::Json());
    const bool fits = name == "isa"     ? has_all(value, here)
                      : name == "cores" ? value.is_number_integer() && value <= device.traits.cores
                                        : value == here;
    if (!fits) return name;
  }
  return "";
}

Engine engine_of(const packs::Entry& entry) {
  bool speaks = false;
  for (const Engine& engine : engines()) {
    const std::vector<std::string> speaks_here = engine.device->languages();
    if (std::find(speaks_here.begin(), speaks_here.end(), entry.language) == speaks_here.end())
      continue;
    speaks = true;
    const spec::DeviceId& id = engine.device->id();
    if (!matches(entry, entry.key.device_arch, id.arch) ||
        !matches(entry, entry.key.device_name, id.name))
      continue;
    if (const std::string field = misfit(entry.target, id); !field.empty())
      refuse("for another target: its " + field + " is " + entry.target[field].dump() +
             ", not met here");
    return engine;
  }
  if (!speaks) refuse("no engine for " + entry.language + " here");
  refuse("for another device: " + entry.key.device_name + " (" + entry.key.device_arch + ")");
}

const Operator& operator_of(const packs::Entry& entry) {
  const Operator* found = find_operator(entry.key.op_name);
  if (!found && entry.other.contains("kernel"))
    refuse("it is of a kernel of kd tune, which mlx_kd.tuned calls");
  if (!found) refuse("this build has no such op");
  if (entry.contract != found->op->contract)
    refuse("for contract " + std::to_string(entry.contract) + " of the op, which has contract " +
           std::to_string(found->op->contract) + " in this build: find a new kernel with kd run");
  if (!found->signature.readable()) refuse("the sizes of this op cannot be read off its arrays");
  if (entry.inputs_spec.size() != found->op->inputs.size() ||
      entry.outputs_spec.size() != found->op->outputs.size())
    refuse("it has other inputs or outputs than the op");
  return *found;
}

// The key's size in the op's order; nullopt for "any size".
std::optional<std::array<int64_t, kMostDims>> size_of(const packs::Entry& entry,
                                                      const spec::Op& op) {
  const spec::Dims& signature = entry.key.shape_signature;
  if (signature.empty() && entry.loose) return std::nullopt;
  std::array<int64_t, kMostDims> dims = {};
  double elements = 1;
  for (size_t i = 0; i < op.dims.size(); ++i) {
    const bool is_attribute = op.dims[i].kind == spec::Dim::Kind::attribute;
    dims[i] = signature.value_or(op.dims[i].name, -1);
    if (dims[i] < (is_attribute ? 0 : 1)) refuse("its shape_signature has no " + op.dims[i].name);
    if (!is_attribute) elements *= static_cast<double>(dims[i]);
  }
  if (elements > kMostElements) refuse("its shape_signature is larger than any array");
  if (!(dims_of(op, dims) == signature)) refuse("its shape_signature is not one of this op");
  return dims;
}

// Only of dims that a pin may cover a range of.
std::vector<Range> ranges_of(const packs::Entry& entry, const spec::Op& op) {
  std::vector<Range> result;
  for (const auto& [name, range] : packs::ranges_of(entry, op.batch_dim)) {
    const auto dim =
        std::find_if(op.dims.begin(), op.dims.end(),
                     [&name = name](const spec::Dim& one) { return one.name == name; });
    if (dim == op.dims.end() || !(dim->free || name == op.batch_dim))
      refuse("it covers a range of '" + name + "', which is not a free dim of this op");
    result.push_back({static_cast<size_t>(dim - op.dims.begin()), range.lo, range.hi});
  }
  return result;
}

// A number that is in the source: null where the entry names none.
base::Json fixed_value(const packs::Entry& entry, const std::string& name) {
  for (const base::Json* from : {&entry.runtime_inputs, &entry.knobs})
    if (const auto found = from->find(name); found != from->end())
      return found->is_array() && found->size() == 1 ? found->front() : *found;
  return nullptr;
}

// Whole files take the model's numbers at run time. Metal bodies have them as constants.
void fix_params(Pin& pin) {
  if (!spec::is_metal_body(pin.entry.language, pin.entry.launch_params)) return;
  pin.fixed_params = true;
  const auto& inputs = pin.op->op->scalars;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const base::Json value = fixed_value(pin.entry, inputs[i].name);
    if (!value.is_number()) refuse("it does not say which " + inputs[i].name + " its source holds");
    pin.params[i] = value.get<double>();
  }
}

bool is_identifier(const std::string& name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_'; });
}

spec::Candidate candidate_of(const packs::Entry& entry, const spec::Op& op, spec::Dtype dtype) {
  spec::Candidate candidate = packs::candidate_as_stored(entry);
  candidate.dtype = dtype;
  name_numbers(candidate, op);
  if (!spec::is_metal_body(entry.language, entry.launch_params))
    candidate.knobs = setting_of(entry);
  return candidate;
}

std::vector<spec::Dtype> dtypes_of(const packs::Entry& entry) {
  if (entry.loose && entry.key.dtype == "unknown") return spec::float_dtypes();
  return {spec::parse_float_dtype(entry.key.dtype)};
}

void take_size(Pin& pin) {
  const auto dims = size_of(pin.entry, *pin.op->op);
  pin.any_size = !dims;
  if (!dims) return;
  pin.key.dims = *dims;
  pin.ranges = ranges_of(pin.entry, *pin.op->op);
  Query query = pin.key;
  query.params = pin.params;
  for (size_t i = 0; i < pin.op->op->scalars.size() && !pin.fixed_params; ++i)
    query.params[i] = pin.op->op->scalars[i].default_value;
  pin.served = serve(pin, 0, query);
  pin.kernel = pin.served->kernel;
}

Pin make_pin(const packs::Entry& entry, const Operator& op, const Engine& engine,
             spec::Dtype dtype) {
  Pin pin;
  pin.op = &op;
  pin.entry = entry;
  pin.key.op = op.index;
  pin.key.dtype = static_cast<uint8_t>(dtype);
  pin.key.place = static_cast<uint8_t>(engine.place);
  pin.kernel = kernel_of(engine.device, candidate_of(entry, *op.op, dtype), object_of(entry));
  pin.reads_shapes = devices::reads_shapes(pin.kernel->candidate());
  fix_params(pin);
  take_size(pin);
  // The kernel holds them; ten thousand pins need not.
  pin.entry.source.clear();
  pin.entry.other = base::Json();
  return pin;
}

// The text without its "[room] ".
std::string reason_of(const std::string& message) {
  const size_t end = message.find("] ");
  return message.substr(0, 1) == "[" && end != std::string::npos ? message.substr(end + 2)
                                                                 : message;
}

}  // namespace

std::variant<std::vector<Pin>, Skipped> pins_of(const packs::Entry& entry, bool allow_approximate) {
  try {
    check_versions(entry, allow_approximate);
    const Operator& op = operator_of(entry);
    const Engine engine = engine_of(entry);
    if (!is_identifier(entry.func_name)) refuse("its func_name is not a valid identifier");
    std::vector<Pin> pins;
    for (const spec::Dtype dtype : dtypes_of(entry))
      pins.push_back(make_pin(entry, op, engine, dtype));
    return pins;
  } catch (const base::Error& error) {
    return Skipped{packs::title(entry), reason_of(error.what())};
  }
}

}  // namespace mlx_kd::runtime
