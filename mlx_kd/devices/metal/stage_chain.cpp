#include "mlx_kd/devices/metal/stage_chain.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "mlx/ops.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/metal_text/metal_body.h"
#include "mlx_kd/msl/bodies/kernel_body.h"

namespace mlx_kd::devices::metal {
namespace {

namespace mx = mlx::core;

using Holds = MetalArgument::Holds;

constexpr int kLeastDeviceElements = 8;  // metal_kernel passes fewer in `constant` memory
constexpr int kCopyThreads = 256;
constexpr size_t kMostMade = 64;

// With rows of zeros behind it, so that it lies in device memory.
mx::array enlarged(const mx::array& array, const mx::Stream& stream) {
  const auto size = static_cast<int>(array.size());
  if (size >= kLeastDeviceElements) return array;
  if (size == 0) return mx::zeros({kLeastDeviceElements}, array.dtype(), stream);
  const mx::array whole = array.ndim() == 0 ? mx::reshape(array, {1}, stream) : array;
  mx::Shape more = whole.shape();
  const int row = size / more[0];
  more[0] = (kLeastDeviceElements - size + row - 1) / row;
  return mx::concatenate({whole, mx::zeros(more, array.dtype(), stream)}, 0, stream);
}

// A kernel of a strided port may have it.
bool may_lie(const mx::array& array, const spec::ArraySpec& port) {
  return array.is_available() && array.ndim() == port.shape.size() && array.ndim() > 0 &&
         array.size() >= kLeastDeviceElements &&
         (array.strides().back() == 1 || array.shape(-1) == 1);
}

template <class T>
T read_as(const Number& number) {
  T value;
  std::memcpy(&value, number.data(), sizeof value);
  return value;
}

mx::array array_of(const MetalArgument& argument, const Number& number) {
  const bool is_signed = argument.type.find('u') != 0;
  if (argument.type == "float") return mx::array(read_as<float>(number));
  if (number_bytes(argument) == 8)
    return is_signed ? mx::array(read_as<int64_t>(number), mx::int64)
                     : mx::array(read_as<uint64_t>(number), mx::uint64);
  return is_signed ? mx::array(read_as<int32_t>(number), mx::int32)
                   : mx::array(read_as<uint32_t>(number), mx::uint32);
}

std::string text_of(const MetalArgument& argument, const Number& number) {
  if (argument.type == "float") return msl::float_text(read_as<float>(number));
  return number_bytes(argument) == 8 ? std::to_string(read_as<int64_t>(number))
                                     : std::to_string(read_as<int32_t>(number));
}

}  // namespace

std::tuple<int, int, int> threads3(const std::array<int64_t, 3>& given) {
  for (const int64_t one : given)
    if (one > std::numeric_limits<int>::max())
      base::fail("devices", "a launch of " + std::to_string(one) +
                                " threads in one dimension: metal_kernel takes at most 2147483647");
  return {static_cast<int>(given[0]), static_cast<int>(given[1]), static_cast<int>(given[2])};
}

// What one call of metal_kernel is made of.
struct StageChain::StageCall {
  std::vector<std::string> input_names, output_names;
  Arrays inputs;
  std::vector<Memory*> made;                   // the outputs, in order
  std::string casts;                           // declarations in front of the body
  std::map<std::string, std::string> numbers;  // constants of the body
  std::set<std::string> declared;              // parameters that metal_kernel declares

  bool has(const std::string& name) const {
    return std::find(input_names.begin(), input_names.end(), name) != input_names.end() ||
           std::find(output_names.begin(), output_names.end(), name) != output_names.end();
  }
  std::string key(const std::string& kernel) const;
  void take(const std::string& name, const mx::array& array) {
    input_names.push_back(name);
    inputs.push_back(array);
  }
};

size_t StageChain::Memory::elements() const {
  size_t count = 1;
  for (const auto extent : shape) count *= static_cast<size_t>(extent);
  return count;
}

mx::Shape StageChain::Memory::allocated() const {
  if (!shared) return shape;
  const size_t count = std::max<size_t>(elements(), kLeastDeviceElements);
  return mlx_shape({static_cast<int64_t>(count)});
}

StageChain::StageChain(const MetalHost& host, const msl::Unit& unit,
                       const spec::Candidate& candidate, const Arrays& inputs,
                       const std::vector<mx::Shape>& output_shapes, const Call& call,
                       MadeKernels& made)
    : host_(host),
      unit_(unit),
      candidate_(candidate),
      call_(call),
      made_(made),
      stream_(host.stream()) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool lies = call.is_strided(i) && may_lie(inputs[i], call.inputs[i]);
    as_they_lie_ = as_they_lie_ || lies;
    inputs_.push_back(lies ? inputs[i]
                           : enlarged(mx::contiguous(inputs[i], false, stream_), stream_));
  }
  for (size_t i = 0; i < output_shapes.size(); ++i) {
    const int updates = call.updated_input(i);
    outputs_.push_back({candidate.outputs_spec.at(i).at("name").get<std::string>(),
                        output_shapes[i], mlx_dtype(call.outputs[i].type), updates, updates >= 0});
    if (updates < 0) continue;
    const mx::array& from = inputs[static_cast<size_t>(updates)];
    outputs_[i].now = copy(from, from.size(), outputs_[i].allocated());
  }
  for (size_t i = 0; i < call.scratch.size(); ++i)
    scratch_.push_back(
        {"scratch" + std::to_string(i), mlx_shape({call.scratch[i]}), mx::uint8, -1, true});
}

void StageChain::note_writers(const std::vector<const StageKernel*>& kernels) {
  std::vector<int> writers(outputs_.size(), 0);
  for (const StageKernel* kernel : kernels)
    for (const MetalArgument& one : kernel->arguments)
      if (one.holds == Holds::output && !one.is_const) ++writers[one.port];
  for (size_t i = 0; i < outputs_.size(); ++i)
    outputs_[i].shared = outputs_[i].shared || writers[i] > 1;
}

StageChain::Memory* StageChain::memory_of(const MetalArgument& argument) {
  if (argument.holds == Holds::output) return &outputs_.at(argument.port);
  if (argument.holds == Holds::scratch) return &scratch_.at(argument.port);
  for (Memory& one : outputs_)
    if (argument.holds == Holds::input && one.updates == static_cast<int>(argument.port))
      return &one;
  return nullptr;
}

void StageChain::add_memory(Memory& memory, const MetalArgument& argument, StageCall& to) {
  const std::string name = memory.shared ? memory.name + "_memory" : memory.name;
  if (memory.shared) {
    const std::string type =
        (argument.is_const ? "const device " : "device ") + argument.type + "* ";
    to.casts += type + argument.name + " = (" + type + ")" + name + ";\n";
  }
  if (to.has(name)) return;
  if (memory.now)
    return to.take(name, memory.shared ? *memory.now : enlarged(*memory.now, stream_));
  if (argument.is_const)
    base::fail("devices", "a kernel of '" + candidate_.op_name + "' reads '" + argument.name +
                              "' before any stage wrote it: write it in an earlier stage");
  to.output_names.push_back(name);
  to.made.push_back(&memory);
}

void StageChain::add_arguments(const StageKernel& kernel, const spec::Stage& stage, StageCall& to) {
  const std::vector<Number> numbers = metal_numbers(kernel.arguments, call_, stage);
  size_t number = 0;
  for (const MetalArgument& one : kernel.arguments) {
    if (Memory* const memory = memory_of(one)) {
      add_memory(*memory, one, to);
    } else if (one.holds == Holds::input) {
      to.take(one.name, inputs_[one.port]);
    } else if (one.holds == Holds::strides) {
      to.declared.insert(one.name);  // by metal_kernel, of the input
    } else if (call_.dims.has(one.name)) {
      to.numbers[one.name] = text_of(one, numbers[number++]);
    } else {
      to.take(one.name, array_of(one, numbers[number++]));
      to.declared.insert(one.name);
    }
  }
}

void StageChain::run(const StageKernel& kernel, const spec::Stage& stage) {
  const auto& grid = stage.launch.grid;
  if (std::any_of(grid.begin(), grid.end(), [](int64_t threads) { return threads < 1; })) return;
  StageCall made;
  add_arguments(kernel, stage, made);
  if (last_) made.take("kd_after", *last_);
  start(kernel, stage, made);
}

MadeKernels::Function MadeKernels::find_or_make(const std::string& key,
                                                const std::function<Function()>& make) {
  const std::lock_guard lock(mutex_);
  if (made_.size() >= kMostMade && !made_.count(key)) made_.clear();
  Function& function = made_[key];
  if (!function) function = make();
  return function;
}

// What the text of the stage is written from, in one text.
std::string StageChain::StageCall::key(const std::string& kernel) const {
  std::string text = kernel + "\n" + casts;
  for (const auto* names : {&input_names, &output_names}) {
    for (const std::string& name : *names) text += name + ",";
    text += ";";
  }
  for (const auto& [name, value] : numbers) text += name + "=" + value + ",";
  for (const std::string& name : declared) text += ";" + name;
  return text;
}

MadeKernels::Function StageChain::function_of(const StageKernel& kernel, const StageCall& made) {
  const std::string& name = kernel.kernel.name;
  return made_.find_or_make(made.key(name) + (as_they_lie_ ? "|" : ""), [&] {
    const std::string header = msl::helpers_of(unit_);
    const std::string body =
        made.casts + msl::body_of(unit_, name, made.numbers, {made.declared, true});
    // MLX compiles again whenever a name comes with another body.
    return host_.metal_kernel(name + "_" + base::sha256_hex(header + body).substr(0, 8),
                              made.input_names, made.output_names, body, header, !as_they_lie_,
                              false, {});
  });
}

void StageChain::start(const StageKernel& kernel, const spec::Stage& stage, StageCall& made) {
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> types;
  for (const Memory* one : made.made) {
    shapes.push_back(one->allocated());
    types.push_back(one->type);
  }
  if (made.made.empty()) {  // something that the next stage can wait for
    made.output_names.push_back("kd_done");
    shapes.push_back({1});
    types.push_back(mx::uint8);
  }
  const auto run = function_of(kernel, made);
  const Arrays results =
      run(made.inputs, shapes, types, threads3(stage.launch.grid), threads3(stage.launch.group),
          {{"T", mlx_dtype(candidate_.dtype)}}, std::nullopt, false, stream_);
  for (size_t i = 0; i < made.made.size(); ++i) made.made[i]->now = results[i];
  last_ = results.front();
}

// MLX's own copies are merged where two are equal; this one is memory of its own. It waits for the
// last stage.
mx::array StageChain::copy(const mx::array& from, size_t elements, const mx::Shape& shape) {
  if (elements == 0) return mx::zeros(shape, from.dtype(), stream_);
  std::vector<std::string> names = {"from"};
  Arrays inputs = {from};
  if (last_) {
    names.push_back("kd_after");
    inputs.push_back(*last_);
  }
  const std::string name = "kd_copy_" + dtype_name(from.dtype()) + (last_ ? "_after" : "");
  const auto run = made_.find_or_make(name, [&] {
    return host_.metal_kernel(name, names, {"to"},
                              "to[thread_position_in_grid.x] = from[thread_position_in_grid.x];",
                              "", true, false, {});
  });
  return run(inputs, {shape}, {from.dtype()}, threads3({static_cast<int64_t>(elements), 1, 1}),
             {kCopyThreads, 1, 1}, {}, std::nullopt, false, stream_)
      .front();
}

StageChain::Arrays StageChain::results() {
  Arrays result;
  for (const Memory& one : outputs_) {
    if (!one.now)
      result.push_back(mx::zeros(one.shape, one.type, stream_));
    else
      result.push_back(one.shared ? copy(*one.now, one.elements(), one.shape) : *one.now);
  }
  return result;
}

}  // namespace mlx_kd::devices::metal
