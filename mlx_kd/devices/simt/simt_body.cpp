#include "mlx_kd/devices/simt/simt_body.h"

#include <cstring>

#include "mlx/ops.h"
#include "mlx/types/half_types.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/host_primitive.h"
#include "mlx_kd/devices/simt/checks/watch.h"
#include "mlx_kd/devices/simt/program/aligned_inputs.h"
#include "mlx_kd/devices/simt/program/body_code.h"
#include "mlx_kd/devices/simt/program/simt_program.h"

namespace mlx_kd::devices::simt {
namespace {

namespace mx = mlx::core;

using BodyHolds = msl::BodyBuffer::Holds;

template <class T>
void fill_as(void* memory, size_t count, float value) {
  T* const at = static_cast<T*>(memory);
  std::fill(at, at + count, static_cast<T>(value));
}

void fill(void* memory, size_t count, mx::Dtype dtype, float value) {
  switch (dtype.val()) {
    case mx::Dtype::Val::bool_:
      return fill_as<bool>(memory, count, value);
    case mx::Dtype::Val::uint8:
      return fill_as<uint8_t>(memory, count, value);
    case mx::Dtype::Val::uint16:
      return fill_as<uint16_t>(memory, count, value);
    case mx::Dtype::Val::uint32:
      return fill_as<uint32_t>(memory, count, value);
    case mx::Dtype::Val::uint64:
      return fill_as<uint64_t>(memory, count, value);
    case mx::Dtype::Val::int8:
      return fill_as<int8_t>(memory, count, value);
    case mx::Dtype::Val::int16:
      return fill_as<int16_t>(memory, count, value);
    case mx::Dtype::Val::int32:
      return fill_as<int32_t>(memory, count, value);
    case mx::Dtype::Val::int64:
      return fill_as<int64_t>(memory, count, value);
    case mx::Dtype::Val::float16:
      return fill_as<mx::float16_t>(memory, count, value);
    case mx::Dtype::Val::bfloat16:
      return fill_as<mx::bfloat16_t>(memory, count, value);
    case mx::Dtype::Val::complex64:
      return fill_as<mx::complex64_t>(memory, count, value);
    default:
      return fill_as<float>(memory, count, value);
  }
}

// An input as it lies in memory.
struct Layout {
  mx::Shape shape;
  mx::Strides strides;
  int ndim = 0;
  size_t before = 0, behind = 0;  // bytes that it takes on either side of its pointer
};

mx::Strides row_major(const mx::Shape& shape) {
  mx::Strides strides(shape.size(), 1);
  for (size_t i = shape.size(); i > 1; --i) strides[i - 2] = strides[i - 1] * shape[i - 1];
  return strides;
}

Layout layout_of(const mx::array& array, const mx::Strides& strides) {
  Layout result{array.shape(), strides, static_cast<int>(array.ndim())};
  int64_t low = 0, high = array.size() > 0 ? 1 : 0;
  for (size_t i = 0; i < strides.size() && array.size() > 0; ++i)
    (strides[i] < 0 ? low : high) += strides[i] * (array.shape()[i] - 1);
  result.before = static_cast<size_t>(-low) * array.itemsize();
  result.behind = static_cast<size_t>(high) * array.itemsize();
  return result;
}

// What all evaluations of one call share.
struct Bound {
  std::shared_ptr<const BodyCode> code;
  std::vector<msl::BodyBuffer> buffers;
  std::vector<mx::Shape> shapes;  // of the outputs
  std::vector<mx::Dtype> dtypes;
  std::optional<float> init_value;
  bool contiguous;
  std::string name;
  Size3 grid, group;
  Watch watch;
  MetalBody body;  // of what is watched
};

size_t count_of(const mx::Shape& shape) {
  size_t count = 1;
  for (const auto extent : shape) count *= static_cast<size_t>(extent);
  return count;
}

class BodyPrimitive final : public cpu::HostPrimitive {
 public:
  BodyPrimitive(mx::Stream stream, std::shared_ptr<const Bound> bound,
                const std::vector<mx::array>& inputs)
      : HostPrimitive(GraphCall{stream}, inputs, bound->shapes), bound_(std::move(bound)) {
    for (const mx::array& one : inputs)
      if (one.status() != mx::array::Status::unscheduled || bound_->contiguous)
        layouts_.push_back(
            layout_of(one, bound_->contiguous ? row_major(one.shape()) : one.strides()));
  }

  const char* name() const override { return bound_->name.c_str(); }

  // Strides are known when the inputs are, and may differ from one evaluation to the next.
  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    if (bound_->contiguous) return HostPrimitive::eval_cpu(inputs, outputs);
    std::make_shared<BodyPrimitive>(stream(), bound_, inputs)->evaluate(inputs, outputs);
  }

  // One call for each entry of the axis. (MLX goes through here even where a custom_function has a
  // vmap of its own; then nothing of it is evaluated.)
  std::pair<std::vector<mx::array>, std::vector<int>> vmap(const std::vector<mx::array>& inputs,
                                                           const std::vector<int>& axes) override {
    size_t mapped = 0;
    while (mapped < axes.size() && axes[mapped] < 0) ++mapped;
    if (mapped == axes.size()) throw std::invalid_argument("[metal_kernel] vmap maps no input.");
    std::vector<std::vector<mx::array>> entries(bound_->shapes.size());
    for (int i = 0; i < inputs[mapped].shape(axes[mapped]); ++i) {
      std::vector<mx::array> one;
      for (size_t j = 0; j < inputs.size(); ++j)
        one.push_back(axes[j] < 0 ? inputs[j] : mx::take(inputs[j], i, axes[j], stream()));
      const auto made =
          mx::array::make_arrays(bound_->shapes, bound_->dtypes,
                                 std::make_shared<BodyPrimitive>(stream(), bound_, one), one);
      for (size_t k = 0; k < made.size(); ++k) entries[k].push_back(made[k]);
    }
    std::vector<mx::array> outputs;
    for (const auto& of_output : entries) outputs.push_back(mx::stack(of_output, 0, stream()));
    return {outputs, std::vector<int>(outputs.size(), 0)};
  }

 private:
  void evaluate(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    HostPrimitive::eval_cpu(inputs, outputs);
  }

  bool wants_contiguous() const override { return bound_->contiguous; }
  std::span<const double> params() const override { return {}; }

  std::vector<void*> buffers(const cpu::Pointers& pointers, AlignedInputs& aligned) const {
    std::vector<void*> result;
    for (const msl::BodyBuffer& one : bound_->buffers) {
      if (one.holds == BodyHolds::output) {
        result.push_back(pointers[input_count() + one.array]);
        continue;
      }
      const Layout& in = layouts_[one.array];
      if (one.holds == BodyHolds::input)
        result.push_back(aligned.add(pointers[one.array], in.before, in.behind));
      else if (one.holds == BodyHolds::shape)
        result.push_back(const_cast<mx::ShapeElem*>(in.shape.data()));
      else if (one.holds == BodyHolds::strides)
        result.push_back(const_cast<int64_t*>(in.strides.data()));
      else
        result.push_back(const_cast<int*>(&in.ndim));
    }
    return result;
  }

  void run(const cpu::Pointers& pointers, const Strides*) const override {
    const auto output = [&](size_t i) { return pointers[input_count() + i]; };
    AlignedInputs aligned;
    for (size_t i = 0; i < bound_->dtypes.size() && bound_->init_value; ++i)
      fill(output(i), count_of(bound_->shapes[i]), bound_->dtypes[i], *bound_->init_value);
    const std::vector<void*> bound = buffers(pointers, aligned);
    if (bound_->watch.watches()) watch(bound);
    if (bound_->code->run(bound, bound_->grid, bound_->group, bound_->watch.order,
                          bound_->watch.seed))
      return;
    for (size_t i = 0; i < bound_->dtypes.size(); ++i)  // NaN, where the type has one
      if (const size_t bytes = count_of(bound_->shapes[i]) * mx::size_of(bound_->dtypes[i]))
        std::memset(output(i), 0xff, bytes);
  }

  void watch(const std::vector<void*>& bound) const {
    std::vector<WatchedBuffer> watched;
    for (size_t i = 0; i < bound.size(); ++i) {
      const msl::BodyBuffer& one = bound_->buffers[i];
      WatchedBuffer buffer{bound[i]};
      if (one.holds == BodyHolds::output) {
        buffer.behind =
            count_of(bound_->shapes[one.array]) * mx::size_of(bound_->dtypes[one.array]);
      } else {
        const Layout& in = layouts_[one.array];
        const auto axes = static_cast<size_t>(in.ndim);
        if (one.holds == BodyHolds::input) buffer.before = in.before, buffer.behind = in.behind;
        if (one.holds == BodyHolds::shape) buffer.behind = axes * sizeof(mx::ShapeElem);
        if (one.holds == BodyHolds::strides) buffer.behind = axes * sizeof(int64_t);
        if (one.holds == BodyHolds::ndim) buffer.behind = sizeof(int);
      }
      watched.push_back(buffer);
    }
    watch_call(bound_->body, bound_->name, watched, bound_->grid, bound_->group, bound_->watch);
  }

  std::shared_ptr<const Bound> bound_;
  std::vector<Layout> layouts_;
};

}  // namespace

std::vector<mx::array> run_body(const MetalBodyCall& call) {
  const int64_t threads = call.group[0] * call.group[1] * call.group[2];
  if (threads > kMaxThreads)
    base::misuse("metal_kernel", "a threadgroup of " + std::to_string(threads) +
                                     " threads: Metal takes at most " +
                                     std::to_string(kMaxThreads));
  const Watch watch = current_watch();
  const auto code = body_code(call.body);
  code->require_no_fault();
  const MetalKernelCall& given = *call.call;
  const auto bound = std::make_shared<const Bound>(
      Bound{code, call.body.buffers, given.output_shapes, given.output_dtypes, given.init_value,
            call.kernel->ensure_row_contiguous, call.kernel->name, size3(call.grid, "grid"),
            size3(call.group, "threadgroup"), watch, watch.watches() ? call.body : MetalBody{}});
  return mx::array::make_arrays(given.output_shapes, given.output_dtypes,
                                std::make_shared<BodyPrimitive>(call.stream, bound, given.inputs),
                                given.inputs);
}

}  // namespace mlx_kd::devices::simt
