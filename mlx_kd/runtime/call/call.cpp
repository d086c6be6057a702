#include "mlx_kd/runtime/call/call.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "mlx/ops.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/runtime/call/tracing.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/never_matched_warning.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/shape_log.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;

std::optional<spec::Dtype> dtype_of(const mx::array& input) {
  if (input.dtype() == mx::float32) return spec::Dtype::float32;
  if (input.dtype() == mx::float16) return spec::Dtype::float16;
  if (input.dtype() == mx::bfloat16) return spec::Dtype::bfloat16;
  return std::nullopt;
}

Arrays in_mlx(const Operator& op, const Arrays& inputs, const Params& params,
              const mx::Stream& stream) {
  return op.form(inputs, {params.data(), op.op->scalars.size()}, stream);
}

// By the pinned kernel; empty where MLX's operator has to run instead.
Arrays by_pin(const Operator& op, const Arrays& inputs, const Served& served, bool wait,
              const mx::Stream& stream) {
  const devices::Program* program = served.kernel->program_if_ready();
  if (!program) program = served.kernel->program(wait);
  if (!program || !may_pin(inputs)) return {};
  try {
    return program->add_to_graph(inputs, op.signature.output_shapes(inputs, served.outputs),
                                 served.call, {stream, &op.form});
  } catch (const std::exception& error) {  // of ours, or of MLX's custom kernels
    served.kernel->drop(error.what());
    return {};
  }
}

// With its line counted; empty where MLX's operator has to run.
Arrays by_ledger(const Operator& op, const Arrays& inputs, const Query& query,
                 const mx::Stream& stream, uint32_t modes) {
  Ledger& ledger = Ledger::mine();
  const auto [line, served] = ledger.find(query);
  line.calls.add();
  Arrays outputs;
  if (served) {
    outputs = by_pin(op, inputs, *served, modes & kWait, stream);
    (outputs.empty() ? line.fallbacks : line.hits).add();
  }
  if (modes & kPins) served ? note_match() : note_miss(ledger, query);
  if (modes & kShapeLog) ShapeLog::shared().note(ledger, line);
  return outputs;
}

// The angles of one position, without axes of 1 before them.
mx::array one_position(const mx::array& angles, const char* name, const mx::StreamOrDevice& s) {
  if (angles.ndim() == 1) return angles;
  if (angles.ndim() == 0 || angles.shape(-1) != static_cast<int>(angles.size()))
    throw std::invalid_argument("[rope] " + std::string(name) + " has shape " +
                                shape_text(angles.shape()) +
                                ": give the angles of one position, D_ROPE/2 of them");
  return mx::reshape(angles, {-1}, s);
}

std::string number_text(double value) {
  return std::isfinite(value) ? base::canonical_json(base::Json(value)) : std::to_string(value);
}

}  // namespace

bool passes_by() {
  if (Process::shared().modes() & kWatched) return false;
  Ledger::mine().other().calls.add();
  return true;
}

Arrays run(const Operator& op, const Arrays& inputs, const Params& params,
           const mx::StreamOrDevice& s) {
  const mx::Stream stream = mx::to_stream(s);
  const uint32_t modes = Process::shared().modes();
  const auto query = query_of(op, inputs, params, stream);
  if (query && (modes & kWatched)) {
    Arrays outputs = by_ledger(op, inputs, *query, stream, modes);
    if (!outputs.empty()) return outputs;
  } else {
    Ledger::mine().other().calls.add();
  }
  return in_mlx(op, inputs, params, stream);
}

Arrays prepared(const Operator& op, const Arrays& inputs, const mx::StreamOrDevice& s) {
  if (op.op->name != "rope" || inputs.size() != 6) return inputs;
  return {inputs[0],
          inputs[1],
          inputs[2],
          inputs[3],
          one_position(inputs[4], "cos", s),
          one_position(inputs[5], "sin", s)};
}

const Operator& known_operator(const std::string& name) {
  if (const Operator* op = find_operator(name)) return *op;
  std::vector<std::string> names;
  for (const Operator& op : all_operators()) names.push_back(op.op->name);
  throw std::invalid_argument("[runtime] there is no op '" + name + "': use " +
                              base::list_of(names));
}

void check_params(const Operator& op, const Params& params) {
  const auto& numbers = op.op->scalars;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const std::string why = numbers[i].why_not(params[i]);
    if (!why.empty())
      throw std::invalid_argument("[" + op.op->name + "] " + numbers[i].name + " is " +
                                  number_text(params[i]) + ": " + why);
  }
}

Params params_of(const Operator& op, const std::map<std::string, double>& given) {
  const auto& numbers = op.op->scalars;
  Params params = {};
  for (size_t i = 0; i < numbers.size(); ++i) params[i] = numbers[i].default_value;
  for (const auto& item : given) {
    const std::string& name = item.first;
    const auto found = std::find_if(numbers.begin(), numbers.end(),
                                    [&](const auto& number) { return number.name == name; });
    if (found == numbers.end())
      throw std::invalid_argument("[" + op.op->name + "] it takes no number '" + name + "'" +
                                  (numbers.empty() ? "" : ", but " + numbers.front().name));
    params[static_cast<size_t>(found - numbers.begin())] = item.second;
  }
  check_params(op, params);
  return params;
}

std::optional<Query> query_of(const Operator& op, const Arrays& inputs, const Params& params,
                              const mx::Stream& stream) {
  if (!op.signature.readable()) return std::nullopt;
  Query query;
  op.signature.read(inputs, query.dims);
  const auto dtype = dtype_of(inputs.front());
  if (!dtype) return std::nullopt;
  for (const mx::array& input : inputs)
    if (input.dtype() != inputs.front().dtype() || input.size() == 0) return std::nullopt;
  query.op = op.index;
  query.dtype = static_cast<uint8_t>(*dtype);
  query.place = static_cast<uint8_t>(stream.device.type);
  std::copy_n(params.begin(), op.op->scalars.size(), query.params.begin());
  return query;
}

}  // namespace mlx_kd::runtime
