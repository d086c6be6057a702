#include "mlx_kd/devices/cuda/call/precompiled.h"

#include <mlx/ops.h>

#include <set>
#include <string_view>

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using By = msl::CudaParameter::Kind;
using Kind = TextParameter::Kind;

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

template <class T>
T value_of(const TextParameter& number) {
  T value;
  std::memcpy(&value, &number.value, sizeof value);
  return value;
}

mx::fast::ScalarArg scalar_of(By kind, const TextParameter& number) {
  if (kind == By::real) return value_of<float>(number);
  if (kind == By::flag) return value_of<bool>(number);
  return value_of<int>(number);
}

}  // namespace

mx::array aligned(const mx::array& array) {
  return starts_aligned(array) ? array : mx::multiply(array, mx::array(1, array.dtype()));
}

std::tuple<int, int, int> three(const std::array<unsigned, 3>& size) {
  return {static_cast<int>(size[0]), static_cast<int>(size[1]), static_cast<int>(size[2])};
}

PrecompiledCall::PrecompiledCall(const std::vector<msl::CudaParameter>& layout,
                                 const TextStage& stage, const std::vector<mx::array>& inputs,
                                 const std::vector<mx::Shape>& output_shapes,
                                 const std::vector<mx::Dtype>& output_types)
    : stage_(stage) {
  for (size_t i = 0; i < stage.parameters.size(); ++i) {
    const TextParameter& one = stage.parameters[i];
    if (one.kind == Kind::input) {
      arrays_.push_back(aligned(inputs[one.value]));
    } else if (one.kind == Kind::output) {
      outputs_.push_back(one.value);
      shapes_.push_back(output_shapes[one.value]);
      types_.push_back(output_types[one.value]);
    } else {
      numbers_.push_back(scalar_of(layout[i].kind, one));
    }
  }
}

PrecompiledCall::Made PrecompiledCall::in_order(const std::vector<mx::array>& made) const {
  Made result = made;
  for (size_t i = 0; i < outputs_.size(); ++i) result[outputs_[i]] = made[i];
  return result;
}

PrecompiledCall::Made PrecompiledCall::by(const std::shared_ptr<mx::Primitive>& primitive) const {
  return in_order(mx::array::make_arrays(shapes_, types_, primitive, arrays_));
}

std::pair<PrecompiledCall::Made, std::shared_ptr<mx::Primitive>> PrecompiledCall::by_new(
    const std::string& symbol, const std::string& cubin, mx::Stream stream) const {
  std::array<unsigned, 3> grid, threads;
  for (size_t d = 0; d < 3; ++d) {
    threads[d] = stage_.node.threads[d];
    grid[d] = stage_.node.blocks[d] * threads[d];
  }
  const std::vector<mx::array> made =
      mx::fast::precompiled_cuda_kernel(symbol, cubin, arrays_, shapes_, types_, numbers_,
                                        three(grid), three(threads), 0, std::nullopt, true, stream);
  return {in_order(made), made.front().primitive_ptr()};
}

}  // namespace mlx_kd::devices::cuda
