#include "mlx_kd/runtime/call/call.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>

#include "mlx/ops.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/runtime/call/graph_forms.h"
#include "mlx_kd/runtime/call/group.h"
#include "mlx_kd/runtime/call/tracing.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/never_matched_warning.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/shape_log.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;

// A call on its way: what is known of it before it runs.
struct Pending {
  const Operator& op;
  const Arrays& inputs;
  const Numbers& numbers;
  const mx::Stream& stream;
  Read read;
};

// By one of our kernels; empty where it cannot be in this graph, or is not compiled.
Arrays by_kernel(const Pending& call, Line& line, const std::shared_ptr<const Served>& served,
                 bool wait) {
  const devices::Program* program = served->kernel->program_if_ready();
  if (!program) program = served->kernel->program(wait);
  if (!program || !may_pin(call.inputs)) return {};
  const auto shapes = call.op.signature.output_shapes(call.inputs, served->outputs);
  try {
    return program->add_to_graph(call.inputs, shapes,
                                 Ledger::call_of(line, served, *call.read.query),
                                 graph_call(call.op, call.read.dims, call.stream));
  } catch (const std::exception& error) {  // our own, or of MLX's custom kernels
    served->kernel->drop(error.what());
    return {};
  }
}

// The op's default setting.
Arrays by_default_kernel(const Pending& call) {
  Ledger& ledger = Ledger::mine();
  Line& line = ledger.find(*call.read.query).line;
  const Served& standby = ledger.standby(line, *call.read.query);
  Arrays outputs = by_kernel(call, line, line.standby, true);
  if (!outputs.empty()) return outputs;
  const bool dropped = standby.kernel->state() == KernelState::dropped;
  throw std::runtime_error("[" + call.op.op->name + "] MLX has no form of it here, and " +
                           (dropped ? "its kernel cannot run: " + standby.kernel->reason()
                                    : "it cannot be part of an export or of a graph compiled for "
                                      "any shape"));
}

// The default kernel of an op that the setting names; empty where it cannot run now.
Arrays by_wanted_default(const Pending& call, Ledger& ledger, Line& line, bool wait) {
  const auto served = ledger.wanted_default(line, *call.read.query, wait);
  return served ? by_kernel(call, line, served, wait) : Arrays();
}

// By the pin, or the default kernel where that is asked for, with the line counted; empty where
// there is none, or it cannot run.
Arrays by_pin(const Pending& call, uint32_t modes) {
  Ledger& ledger = Ledger::mine();
  const auto& [line, served] = ledger.find(*call.read.query);
  count(line.calls);
  Arrays outputs;
  if (served) {
    outputs = by_kernel(call, line, served, modes & kWait);
    if (!outputs.empty()) count(line.hits);
  }
  if (outputs.empty()) {
    if (line.wants_default) outputs = by_wanted_default(call, ledger, line, modes & kWait);
    if (!outputs.empty())
      count(line.defaults);
    else if (served)
      count(line.fallbacks);
  }
  if (modes & kPins) {
    if (served || !outputs.empty())
      note_match();
    else
      note_miss(ledger, *call.read.query);
  }
  if (modes & kShapeLog) ShapeLog::shared().note(ledger, line);
  return outputs;
}

// An input that was left out may come with any type: it gets the port's, which kernels expect.
void give_types(const spec::Op& op, Arrays& inputs) {
  const spec::Dtype own = own_type(op, inputs).value_or(spec::Dtype::float32);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const spec::PortType& type = op.inputs[i].type;
    if (!is_absent(op.inputs[i], inputs[i]) || !(type.follows() || type.is_fixed())) continue;
    const spec::Dtype wanted = type.at(own, {});
    if (element_type(inputs[i]) != wanted) inputs[i] = left_out(wanted);
  }
}

// Of a call without elements that MLX does not take: zeros of the outputs' shapes, most of which
// have no elements; an updated input as it is.
Arrays empty_results(const Pending& call) {
  const spec::Op& op = *call.op.op;
  spec::Dims dims;
  for (size_t i = 0; i < op.dims.size(); ++i) dims.set(op.dims[i].name, call.read.dims[i]);
  if (op.complete) dims = op.complete(dims);
  std::vector<spec::Shape> ports;
  for (const spec::Port& port : op.outputs) ports.push_back(port.shape(dims));
  const auto shapes = call.op.signature.output_shapes(call.inputs, ports);
  const spec::Dtype own = own_type(op, call.inputs).value_or(spec::Dtype::float32);
  Arrays outputs;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const int updated = spec::updated_input(op, i);
    outputs.push_back(updated >= 0 ? call.inputs[static_cast<size_t>(updated)]
                                   : mx::zeros(shapes[i],
                                               devices::mlx_dtype(op.outputs[i].type.at(own, dims)),
                                               call.stream));
  }
  return outputs;
}

Arrays without_mlx(const Pending& call) {
  const spec::Op& op = *call.op.op;
  if (call.read.query) return by_default_kernel(call);
  if (call.op.signature.readable() && is_empty(op, call.inputs)) return empty_results(call);
  throw std::invalid_argument("[" + op.name + "] MLX has no form of it, and none of our kernels " +
                              "takes the call: " + unfit_reason(call.op, call.inputs));
}

// The results of a call none of whose outputs has elements; empty where some has. MLX is not asked:
// its quantised product divides by a size of 0.
Arrays results_without_elements(const Pending& call) {
  if (call.read.query || !call.op.signature.readable() || !is_empty(*call.op.op, call.inputs))
    return {};
  Arrays outputs = empty_results(call);
  const bool any = std::any_of(outputs.begin(), outputs.end(),
                               [](const mx::array& output) { return output.size() > 0; });
  return any ? Arrays{} : outputs;
}

// Where MLX throws on this device, our kernel runs, from then on without asking MLX. Its
// error is the caller's where none does.
Arrays without_pin(const Pending& call) {
  if (Arrays none = results_without_elements(call); !none.empty()) return none;
  if (!call.op.mlx_runs_on(call.stream)) return without_mlx(call);
  std::exception_ptr refused;
  try {
    return in_mlx(call.op, call.inputs, scalars_of(call.op, call.numbers), call.read.dims,
                  call.stream);
  } catch (const std::exception&) {
    refused = std::current_exception();
  }
  try {
    Arrays outputs = without_mlx(call);
    if (call.read.query)
      call.op.without_mlx->fetch_or(Operator::bit_of(call.stream), std::memory_order_relaxed);
    return outputs;
  } catch (const std::exception&) {
    std::rethrow_exception(refused);
  }
}

[[noreturn]] void refuse_number(const spec::Op& op, const std::string& name, double value,
                                const std::string& why) {
  const std::string number =
      std::isfinite(value) ? base::canonical_json(base::Json(value)) : std::to_string(value);
  throw std::invalid_argument("[" + op.name + "] " + name + " is " + number + ": " + why);
}

// Every number that the op takes, by name in its order.
std::string number_names(const spec::Op& op) {
  std::vector<std::string> names;
  for (const spec::Scalar& scalar : op.scalars) names.push_back(scalar.name);
  for (const spec::Dim& dim : op.dims)
    if (dim.kind == spec::Dim::Kind::attribute) names.push_back(dim.name);
  return names.empty() ? "" : ", but " + base::list_of(names);
}

void set_number(const spec::Op& op, const std::string& name, double value, Numbers& numbers) {
  for (size_t i = 0; i < op.scalars.size(); ++i)
    if (op.scalars[i].name == name) {
      numbers.scalars[i] = value;
      return;
    }
  for (size_t i = 0; i < op.dims.size(); ++i)
    if (op.dims[i].name == name && op.dims[i].kind == spec::Dim::Kind::attribute) {
      if (!(value >= 0 && value <= 0x1p47 && value == std::floor(value)))
        refuse_number(op, name, value, "give a whole number of at least 0");
      numbers.attributes[i] = static_cast<int64_t>(value);
      return;
    }
  throw std::invalid_argument("[" + op.name + "] it takes no number '" + name + "'" +
                              number_names(op));
}

}  // namespace

const mx::array& left_out(spec::Dtype type) {
  // Graphs may hold one after every static object is gone.
  static const auto& all = *new Arrays([] {
    Arrays made;
    for (const spec::Dtype each : spec::all_dtypes())
      made.push_back(mx::array(std::initializer_list<float>{}, devices::mlx_dtype(each)));
    return made;
  }());
  return all[static_cast<size_t>(type)];
}

bool passes_by() {
  if (Process::shared().modes() & kWatched) return false;
  count(Ledger::mine().other().calls);
  return true;
}

Arrays run(const Operator& op, Arrays inputs, const Numbers& numbers, const mx::StreamOrDevice& s) {
  const mx::Stream stream = mx::to_stream(s);
  const uint32_t modes = Process::shared().modes();
  op.signature.check_count(inputs.size());
  if (op.op->arrange) inputs = op.op->arrange(inputs, stream);
  if (op.has_optional) give_types(*op.op, inputs);
  const Pending call{op, inputs, numbers, stream, read_call(op, inputs, numbers, stream)};
  if (call.read.query && (modes & kWatched)) {
    Arrays outputs = by_pin(call, modes);
    if (!outputs.empty()) return outputs;
  } else {
    count(Ledger::mine().other().calls);
  }
  return without_pin(call);
}

const Operator& known_operator(const std::string& name) {
  if (const Operator* op = find_operator(name)) return *op;
  std::vector<std::string> names;
  for (const Operator& op : all_operators()) names.push_back(op.op->name);
  throw std::invalid_argument("[runtime] there is no op '" + name + "': use " +
                              base::list_of(names));
}

void check_numbers(const Operator& op, const Numbers& numbers) {
  for (size_t i = 0; i < op.op->scalars.size(); ++i) {
    const spec::Scalar& scalar = op.op->scalars[i];
    const std::string why = scalar.why_not(numbers.scalars[i]);
    if (!why.empty()) refuse_number(*op.op, scalar.name, numbers.scalars[i], why);
  }
  for (size_t i = 0; i < op.op->dims.size() && op.has_attributes; ++i)
    if (numbers.attributes[i] < 0)
      refuse_number(*op.op, op.op->dims[i].name, static_cast<double>(numbers.attributes[i]),
                    "give a whole number of at least 0");
}

// All layers of a model give the same position: a thread keeps those that it last gave.
mx::array array_of_int(const Operator& op, size_t port, int64_t value) {
  struct Known {
    int64_t value;
    mx::array array;
  };
  constexpr size_t kKnown = 64;
  thread_local std::array<std::optional<Known>, kKnown> known;
  const mx::Dtype type = devices::mlx_dtype(op.fixed_types[port].value_or(spec::Dtype::float32));
  auto& last = known[static_cast<size_t>(value) % kKnown];
  if (!last || last->value != value || last->array.dtype() != type)
    last.emplace(Known{value, mx::array(std::initializer_list<int64_t>{value}, type)});
  return last->array;
}

namespace {

// Of a port's int at a size.
struct IntRange {
  const spec::Op* op = nullptr;
  DimValues dims = {};
  std::pair<int64_t, int64_t> range;
};

// A thread keeps what it last asked of each port.
std::pair<int64_t, int64_t> int_range(const Operator& op, size_t port, const DimValues& values) {
  thread_local std::map<std::pair<uint16_t, size_t>, IntRange> known;
  IntRange& last = known[{op.index, port}];
  if (last.op == op.op && last.dims == values) return last.range;
  spec::Dims dims;
  for (size_t i = 0; i < op.op->dims.size(); ++i) dims.set(op.op->dims[i].name, values[i]);
  last = {op.op, values, op.op->inputs[port].int_range(dims)};
  return last.range;
}

}  // namespace

void check_int(const Operator& op, size_t port, int64_t value, const Arrays& inputs,
               const Numbers& numbers, const mx::StreamOrDevice& s) {
  DimValues values = numbers.attributes;
  const auto read = [&](const Arrays& arranged) {
    op.signature.check_count(arranged.size());
    op.signature.read(Inputs(arranged), scalars_of(op, numbers), values);
  };
  op.op->arrange ? read(op.op->arrange(inputs, mx::to_stream(s))) : read(inputs);
  const auto [least, most] = int_range(op, port, values);
  if (value >= least && value <= most) return;
  throw std::invalid_argument(
      "[" + op.op->name + "] " + op.op->inputs[port].name + " is " + std::to_string(value) + ": " +
      (least > most ? "no value fits arrays of these shapes"
                    : "give " + std::to_string(least) + " to " + std::to_string(most)));
}

bool are_valid(const Operator& op, const Numbers& numbers) {
  for (size_t i = 0; i < op.op->scalars.size(); ++i)
    if (!op.op->scalars[i].why_not(numbers.scalars[i]).empty()) return false;
  return !op.has_attributes ||
         *std::min_element(numbers.attributes.begin(), numbers.attributes.end()) >= 0;
}

Numbers numbers_of(const Operator& op, const std::map<std::string, double>& given) {
  Numbers numbers;
  for (size_t i = 0; i < op.op->scalars.size(); ++i)
    numbers.scalars[i] = op.op->scalars[i].default_value;
  for (size_t i = 0; i < op.op->dims.size(); ++i)
    numbers.attributes[i] = op.op->dims[i].default_value;
  for (const auto& [name, value] : given) set_number(*op.op, name, value, numbers);
  check_numbers(op, numbers);
  return numbers;
}

}  // namespace mlx_kd::runtime
