#include "mlx_kd/devices/cuda/cuda_program.h"

#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>

#include <cstring>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/text_work.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using By = msl::CudaParameter::Kind;
using Holds = MetalArgument::Holds;

template <class T>
T read_as(const Number& number, size_t offset = 0) {
  T value;
  std::memcpy(&value, number.data() + offset, sizeof value);
  return value;
}

// Outputs follow the inputs in a kernel of MLX, and what a kernel may write is one of the former.
void check_inputs_are_const(const CudaKernel& kernel, const std::vector<MetalArgument>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].holds == Holds::input && !kernel.kernel.buffers[i].is_const)
      msl::refuse(
          *kernel.sources, kernel.kernel.buffers[i].at,
          "input '" + arguments[i].name + "' is bound as one that is written: make it const");
}

void check_no_group_arguments(const CudaKernel& kernel) {
  if (!kernel.kernel.groups.empty())
    msl::refuse(*kernel.sources, kernel.kernel.groups.front().at,
                "'" + kernel.kernel.groups.front().name +
                    "' takes its size from the host: declare threadgroup memory in the kernel");
}

void check_kinds(const CudaKernel& kernel, const std::vector<MetalArgument>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].holds == Holds::scratch || arguments[i].holds == Holds::strides)
      msl::refuse(*kernel.sources, kernel.kernel.buffers[i].at,
                  "'" + arguments[i].name +
                      "' is not bound on the device cuda: give the op a variant in CUDA");
}

// Whether the memory of an array surely starts at a multiple of 16 bytes. Operations that give
// views keep the offset of what they view; a slice makes one.
bool starts_aligned(const mx::array& array) {
  static const std::set<std::string_view> views = {
      "Reshape", "Transpose", "ExpandDims", "Squeeze", "Flatten",     "Unflatten",
      "View",    "Broadcast", "Contiguous", "Copy",    "StopGradient"};
  static const std::set<std::string_view> offsets = {"Slice", "DynamicSlice", "Split", "AsStrided"};
  if (array.status() == mx::array::Status::available || !array.has_primitive())
    return array.offset() % 16 == 0;
  const std::string_view name = array.primitive().name();
  if (offsets.count(name)) return false;
  return !views.count(name) || starts_aligned(array.inputs().front());
}

// What KD_WHOLE_LINES promised the compiler.
LaunchSize line_size(const spec::Launch& launch, const std::string& op_name) {
  if (launch.group[1] != 1 || launch.group[2] != 1)
    base::fail("devices", "the kernel of '" + op_name +
                              "' is launched in threadgroups of more than one dimension: on the "
                              "device cuda give all threads of a group in x");
  if (launch.group[0] > 0 && launch.grid[0] % launch.group[0] != 0)
    base::fail("devices", "the kernel of '" + op_name + "' is launched with " +
                              std::to_string(launch.grid[0]) + " threads in threadgroups of " +
                              std::to_string(launch.group[0]) +
                              ": on the device cuda round them up to whole threadgroups and let "
                              "the kernel leave out what is too many");
  return launch_size(launch.grid, launch.group);
}

bool same_call(const Call& a, const Call& b) {
  return a.launch().grid == b.launch().grid && a.launch().group == b.launch().group &&
         a.scalars == b.scalars && a.dims == b.dims;
}

}  // namespace

std::tuple<int, int, int> three(const std::array<unsigned, 3>& size) {
  return {static_cast<int>(size[0]), static_cast<int>(size[1]), static_cast<int>(size[2])};
}

mx::array aligned(const mx::array& array) {
  return starts_aligned(array) ? array : mx::multiply(array, mx::array(1, array.dtype()));
}

CudaProgram::CudaProgram(std::string cubin, const CudaKernel& kernel,
                         const spec::Candidate& candidate)
    : cubin_(std::move(cubin)),
      symbol_(kernel.symbol),
      op_name_(candidate.op_name),
      arguments_(metal_arguments(kernel.kernel, *kernel.sources, candidate)),
      layout_(msl::cuda_layout(kernel.kernel, candidate_options())),
      code_(std::make_shared<Code>(cubin_)),
      function_(code_->function(symbol_)) {
  check_inputs_are_const(kernel, arguments_);
  check_no_group_arguments(kernel);
  check_kinds(kernel, arguments_);
  for (const msl::CudaParameter& one : layout_) {
    if (one.kind != By::pointer) continue;
    const MetalArgument& argument = arguments_[one.binding];
    (argument.holds == Holds::output ? output_order_ : input_order_).push_back(argument.port);
  }
}

// What follows the pointers.
std::vector<CudaProgram::Scalar> CudaProgram::scalars(const Call& call) const {
  const std::vector<Number> numbers = metal_numbers(arguments_, call, call.stages.front());
  std::vector<size_t> number_of(arguments_.size(), 0);
  for (size_t i = 0, next = 0; i < arguments_.size(); ++i)
    if (arguments_[i].holds == Holds::number) number_of[i] = next++;
  std::vector<Scalar> values;
  for (const msl::CudaParameter& one : layout_) {
    if (one.kind == By::pointer) continue;
    if (one.kind == By::grid) {
      values.emplace_back(static_cast<int>(static_cast<unsigned>(call.launch().grid[one.binding])));
      continue;
    }
    const Number& number = numbers[number_of[one.binding]];
    if (one.kind == By::real)
      values.emplace_back(read_as<float>(number));
    else
      values.emplace_back(read_as<int>(number, one.kind == By::high ? sizeof(int) : 0));
  }
  return values;
}

void CudaProgram::queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                        const Call& call, Stream stream) const {
  Parameters parameters;
  for (const size_t port : input_order_) parameters.add(inputs[port]);
  for (const size_t port : output_order_) parameters.add(static_cast<const void*>(outputs[port]));
  for (const Scalar& value : scalars(call))
    std::visit([&](auto number) { parameters.add(number); }, value);
  cuda::launch(function_, line_size(call.launch(), op_name_), 0, stream, parameters);
}

void CudaProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                         const Call& call) const {
  use_gpu();
  queue(inputs, outputs, call, stream_);
  check(driver().stream_wait(stream_), ("running the kernel of '" + op_name_ + "'").c_str());
}

void CudaProgram::check_call(const std::vector<mx::array>& inputs, size_t outputs,
                             const Call& call) const {
  static const bool mlx_has_cuda = mx::is_available(mx::Device::gpu);
  if (!mlx_has_cuda)
    base::fail("devices", "this MLX has no CUDA: pip install 'mlx[cuda13]' to run kernels of '" +
                              op_name_ + "' on its arrays");
  check_arrays(op_name_, inputs, outputs, call);
}

bool CudaProgram::Size::operator==(const Size& other) const {
  return stream == other.stream && same_call(call, other.call);
}

// The kernel's pointers, then its numbers.
std::shared_ptr<const NativeWork> CudaProgram::work_of(const Call& call) const {
  if (auto known = works_.find_if([&](const Call& other) { return same_call(call, other); }))
    return known;
  NativeKernel kernel{op_name_, {}, {}, {}};
  kernel.layouts.assign(input_order_.size(), NativeKernel::Layout::row_major);
  auto work = std::make_shared<TextWork>(function_, line_size(call.launch(), op_name_),
                                         std::move(kernel), call.scalars);
  for (const size_t port : input_order_) work->add_input(port);
  for (const size_t port : output_order_) work->add_output(port);
  for (const Scalar& value : scalars(call))
    std::visit([&](auto number) { work->add_number(number); }, value);
  works_.keep(call, work);
  return work;
}

std::vector<mx::array> CudaProgram::make_precompiled(const std::vector<mx::array>& inputs,
                                                     const std::vector<mx::Shape>& output_shapes,
                                                     const Size& size) const {
  const LaunchSize launch = line_size(size.call.launch(), op_name_);
  std::array<unsigned, 3> grid;
  for (size_t d = 0; d < 3; ++d) grid[d] = launch.blocks[d] * launch.threads[d];
  std::vector<mx::Dtype> types;
  for (const size_t port : output_order_) types.push_back(mlx_dtype(size.call.outputs[port].type));
  std::vector<mx::array> made = mx::fast::precompiled_cuda_kernel(
      symbol_, cubin_, inputs, output_shapes, types, scalars(size.call), three(grid),
      three(launch.threads), 0, std::nullopt, true, size.stream);
  prepared_.keep(size, made.front().primitive_ptr());
  return made;
}

std::vector<mx::array> CudaProgram::precompiled(const std::vector<mx::array>& inputs,
                                                const std::vector<mx::Shape>& output_shapes,
                                                const Size& size) const {
  std::vector<mx::array> ordered;
  for (const size_t port : input_order_) ordered.push_back(aligned(inputs[port]));
  std::vector<mx::Shape> shapes;
  for (const size_t port : output_order_) shapes.push_back(output_shapes[port]);
  const auto primitive = prepared_.find(size);
  std::vector<mx::Dtype> dtypes;
  for (const size_t port : output_order_) dtypes.push_back(mlx_dtype(size.call.outputs[port].type));
  const std::vector<mx::array> made =
      primitive ? mx::array::make_arrays(std::move(shapes), dtypes, primitive, ordered)
                : make_precompiled(ordered, shapes, size);
  std::vector<mx::array> result = made;
  for (size_t i = 0; i < output_order_.size(); ++i) result[output_order_[i]] = made[i];
  return result;
}

std::vector<mx::array> CudaProgram::call(const std::vector<mx::array>& inputs,
                                         const std::vector<spec::Shape>& output_shapes,
                                         const Call& call) const {
  check_call(inputs, output_shapes.size(), call);
  const mx::Stream stream = mx::default_stream(mx::Device::gpu);
  if (find_native()) return add_to_graph(inputs, mlx_shapes(output_shapes), call, {stream});
  return precompiled(inputs, mlx_shapes(output_shapes), {call, stream});
}

std::vector<mx::array> CudaProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                 const std::vector<mx::Shape>& output_shapes,
                                                 const Call& call, const GraphCall& graph) const {
  const NativeApi* api = find_native();
  if (!api) return Program::add_to_graph(inputs, output_shapes, call, graph);
  check_call(inputs, output_shapes.size(), call);
  std::call_once(kept_, [this] { keep_loaded(code_); });
  return native_call(*api, graph, work_of(call), inputs, output_shapes, output_types(call));
}

}  // namespace mlx_kd::devices::cuda
