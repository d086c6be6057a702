#include "mlx_kd/devices/cuda/call/native_group.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "mlx/primitives.h"
#include "mlx_kd/devices/cuda/call/native_primitive.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;
using Layout = NativeKernel::Layout;

constexpr size_t kBufferAlignment = 256;

// Where an array of the group lies.
struct Place {
  enum class Kind { input, output, between } kind;
  size_t at;  // the index, or the first byte in the scratch memory
};

// One operation: what it launches, on which arrays. `like`: the inputs' axes and strides.
struct GroupStep {
  std::shared_ptr<const NativeWork> work;
  std::vector<Place> in, out;
  std::vector<mx::array> like;
  std::vector<size_t> scratch;  // first bytes
};

class GroupWork final : public NativeWork {
 public:
  // `is_settled`: what the first kernel may read before it waits was there before it was queued.
  GroupWork(NativeKernel kernel, std::vector<GroupStep> steps, bool is_settled)
      : kernel_(std::move(kernel)), steps_(std::move(steps)), is_settled_(is_settled) {}

  const NativeKernel& kernel() const override { return kernel_; }
  std::span<const double> params() const override { return {}; }
  bool same(const NativeWork& other) const override { return this == &other; }

  void launch(const NativeMemory& memory, const Add& add) const override {
    bool may_start = is_settled_;
    const Add add_in_order = [&](const NativeNode& node, void** parameters) {
      NativeNode added = node;
      added.early = node.early && may_start;
      may_start = true;
      add(added, parameters);
    };
    for (const GroupStep& step : steps_) {
      NativeMemory own;
      for (size_t i = 0; i < step.in.size(); ++i) {
        own.inputs[i] = address(step.in[i], memory);
        own.in[i] =
            step.in[i].kind == Place::Kind::input ? memory.in[step.in[i].at] : &step.like[i];
      }
      for (size_t i = 0; i < step.out.size(); ++i) own.outputs[i] = address(step.out[i], memory);
      for (size_t i = 0; i < step.scratch.size(); ++i)
        own.scratch[i] = static_cast<char*>(memory.scratch[0]) + step.scratch[i];
      step.work->launch(own, add_in_order);
    }
  }

 private:
  static void* address(const Place& place, const NativeMemory& memory) {
    if (place.kind == Place::Kind::input) return const_cast<void*>(memory.inputs[place.at]);
    if (place.kind == Place::Kind::output) return memory.outputs[place.at];
    return static_cast<char*>(memory.scratch[0]) + place.at;
  }

  NativeKernel kernel_;
  std::vector<GroupStep> steps_;
  bool is_settled_;
};

class NativeGroup final : public OperationGroup {
 public:
  using Primitive = std::shared_ptr<NativePrimitive>;

  NativeGroup(Primitive settled, Primitive unsettled, const std::vector<mx::array>& inputs,
              std::vector<mx::array> constants, const std::vector<mx::array>& outputs)
      : settled_(std::move(settled)),
        unsettled_(std::move(unsettled)),
        constants_(std::move(constants)) {
    const std::vector<int>& updates = settled_->work()->kernel().updates;
    const auto is_updated = [&](size_t i) {
      return std::count(updates.begin(), updates.end(), static_cast<int>(i)) > 0;
    };
    // What the group updates was written by others.
    auto order = std::make_shared<std::vector<int>>();
    int free = 0, held = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      is_weight_.push_back(!is_updated(i) && inputs[i].is_available());
      order->push_back(is_weight_[i] ? -1 - held++ : free++);
    }
    for (size_t i = 0; i < constants_.size(); ++i) order->push_back(-1 - held++);
    order_ = std::move(order);
    for (const mx::array& output : outputs) {
      shapes_.push_back(output.shape());
      types_.push_back(output.dtype());
    }
  }

  // What is there already is held by the primitive: MLX's graph has the other inputs alone.
  std::vector<mx::array> call(const std::vector<mx::array>& inputs) const override {
    std::vector<mx::array> free;
    HeldArrays held{{}, order_};
    held.arrays.reserve(order_->size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (is_weight_[i] && !inputs[i].is_available()) return unsettled_call(inputs);
      (is_weight_[i] ? held.arrays : free).push_back(inputs[i]);
    }
    held.arrays.insert(held.arrays.end(), constants_.begin(), constants_.end());
    auto primitive = std::make_shared<NativePrimitive>(*settled_, free, shapes_, std::move(held));
    return arrays_of(std::move(primitive), free, shapes_, types_);
  }

 private:
  std::vector<mx::array> unsettled_call(const std::vector<mx::array>& inputs) const {
    std::vector<mx::array> all = inputs;
    all.insert(all.end(), constants_.begin(), constants_.end());
    return arrays_of(unsettled_, all, shapes_, types_);
  }

  Primitive settled_, unsettled_;
  std::vector<bool> is_weight_;  // inputs that were there when the group was made
  std::shared_ptr<const std::vector<int>> order_;
  std::vector<mx::array> constants_;
  std::vector<mx::Shape> shapes_;
  std::vector<mx::Dtype> types_;
};

// Walks from the outputs to the inputs, each operation once, its inputs first.
class GroupMaker {
 public:
  GroupMaker(const std::vector<mx::array>& inputs, const std::vector<mx::array>& outputs)
      : inputs_(inputs), outputs_(outputs) {
    for (size_t i = 0; i < inputs.size(); ++i)
      places_.insert({inputs[i].id(), {Place::Kind::input, i}});
    layouts_.assign(inputs.size(), Layout::as_it_lies);
    axes_.assign(inputs.size(), 0);
    updates_.assign(outputs.size(), -1);
  }

  std::shared_ptr<const OperationGroup> make() {
    if (inputs_.empty() || outputs_.empty()) return nullptr;
    for (const mx::array& output : outputs_)
      if (!visit(output) || !is_made(output)) return nullptr;
    if (!api_ || inputs_.size() + constants_.size() + outputs_.size() > cpu::kMostArrays)
      return nullptr;
    std::vector<mx::array> all = inputs_;
    all.insert(all.end(), constants_.begin(), constants_.end());
    std::vector<mx::Shape> shapes;
    for (const mx::array& output : outputs_) shapes.push_back(output.shape());
    const NativeKernel kernel{"group", layouts_, updates_, {std::max<size_t>(bytes_, 1)},
                              axes_,   true};
    const auto primitive = [&](bool is_settled) {
      auto work = std::make_shared<const GroupWork>(kernel, steps_, is_settled);
      return std::make_shared<NativePrimitive>(*api_, GraphCall{*stream_}, std::move(work), all,
                                               shapes);
    };
    return std::make_shared<const NativeGroup>(primitive(true), primitive(false), inputs_,
                                               std::move(constants_), outputs_);
  }

 private:
  // Whether a kernel of the group writes it as an output.
  bool is_made(const mx::array& output) const {
    const auto known = places_.find(output.id());
    return known != places_.end() && known->second.kind == Place::Kind::output;
  }

  bool visit(const mx::array& array) {
    if (places_.contains(array.id())) return true;
    if (array.is_tracer()) return false;
    if (array.status() != mx::array::Status::unscheduled) return add_constant(array);
    if (!array.has_primitive()) return false;
    if (auto* ours = dynamic_cast<NativePrimitive*>(&array.primitive()))
      return !ours->holds_arrays() && visit_kernel(array, *ours);
    return visit_view(array);
  }

  bool add_constant(const mx::array& array) {
    places_.insert({array.id(), {Place::Kind::input, inputs_.size() + constants_.size()}});
    constants_.push_back(array);
    layouts_.push_back(Layout::as_it_lies);
    axes_.push_back(0);
    return true;
  }

  bool visit_view(const mx::array& array) {
    const std::string name = array.primitive().name();
    const mx::array& source = array.inputs()[0];
    if (name != "Reshape" && !(name == "Slice" && is_leading(array))) return false;
    if (!visit(source)) return false;
    const Place place = places_.at(source.id());
    const auto from = views_.find(source.id());
    if (place.kind == Place::Kind::input || (name == "Reshape" && from != views_.end()))
      return false;
    mx::array view(array.shape(), array.dtype(), nullptr, {});
    if (name == "Slice") {
      const auto& strides = from == views_.end() ? source.strides() : from->second.strides();
      view.copy_shared_buffer(view, strides, {false, false, false}, array.size());
      views_.insert({array.id(), view});
    }
    places_.insert({array.id(), place});
    return true;
  }

  static bool is_leading(const mx::array& slice) {
    const auto& [start, end, strides] = static_cast<const mx::Slice&>(slice.primitive()).state();
    return std::all_of(start.begin(), start.end(), [](auto at) { return at == 0; }) &&
           std::all_of(strides.begin(), strides.end(), [](auto step) { return step == 1; });
  }

  bool visit_kernel(const mx::array& array, NativePrimitive& ours) {
    for (const mx::array& input : array.inputs())
      if (!visit(input)) return false;
    if (stream_ && *stream_ != ours.stream()) return false;
    stream_ = ours.stream();
    api_ = &ours.api();
    GroupStep step{ours.work(), {}, {}, {}, {}};
    for (size_t i = 0; i < array.inputs().size(); ++i) add_input(array.inputs()[i], i, step);
    const std::vector<mx::array> made = array.outputs();
    for (size_t i = 0; i < made.size(); ++i)
      if (!add_output(made[i], i, step)) return false;
    for (const size_t bytes : step.work->kernel().scratch_bytes)
      step.scratch.push_back(take(bytes));
    steps_.push_back(std::move(step));
    return true;
  }

  // An input of the group lies as the pickiest of its kernels wants it.
  void add_input(const mx::array& input, size_t i, GroupStep& step) {
    const NativeKernel& kernel = step.work->kernel();
    const Place place = places_.at(input.id());
    step.in.push_back(place);
    const auto view = views_.find(input.id());
    step.like.push_back(view == views_.end() ? mx::array(input.shape(), input.dtype(), nullptr, {})
                                             : view->second);
    if (place.kind != Place::Kind::input) return;
    const Layout wanted = kernel.layouts[i];
    Layout& layout = layouts_[place.at];
    const bool differs = layout == Layout::last_axis && wanted == Layout::last_axis &&
                         axes_[place.at] != kernel.axes[i];
    if (differs || wanted == Layout::row_major || layout == Layout::row_major)
      layout = Layout::row_major;
    else if (wanted == Layout::last_axis)
      layout = wanted;
    axes_[place.at] = kernel.axes[i];
  }

  bool add_output(const mx::array& made, size_t i, GroupStep& step) {
    const auto is_same = [&](const mx::array& output) { return output.id() == made.id(); };
    const auto known = std::find_if(outputs_.begin(), outputs_.end(), is_same);
    const auto index = static_cast<size_t>(known - outputs_.begin());
    const std::vector<int>& updates = step.work->kernel().updates;
    const int updated = i < updates.size() ? updates[i] : -1;
    if (updated >= 0) {
      const Place from = step.in[static_cast<size_t>(updated)];
      const bool is_free = from.kind == Place::Kind::input && from.at < inputs_.size();
      if (!is_free || known == outputs_.end()) return false;
      layouts_[from.at] = Layout::row_major;
      updates_[index] = static_cast<int>(from.at);
    }
    const Place place = known == outputs_.end() ? Place{Place::Kind::between, take(made.nbytes())}
                                                : Place{Place::Kind::output, index};
    places_.insert({made.id(), place});
    step.out.push_back(place);
    return true;
  }

  // The first byte of so many in the scratch memory.
  size_t take(size_t bytes) {
    const size_t first = bytes_;
    bytes_ += (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
    return first;
  }

  const std::vector<mx::array>&inputs_, &outputs_;
  std::vector<mx::array> constants_;
  std::unordered_map<uintptr_t, Place> places_;
  std::unordered_map<uintptr_t, mx::array> views_;  // with strides of their own
  std::vector<Layout> layouts_;
  std::vector<size_t> axes_;
  std::vector<int> updates_;
  std::vector<GroupStep> steps_;
  size_t bytes_ = 0;
  std::optional<mx::Stream> stream_;
  const NativeApi* api_ = nullptr;
};

}  // namespace

std::shared_ptr<const OperationGroup> native_group(const std::vector<mx::array>& inputs,
                                                   const std::vector<mx::array>& outputs) {
  return GroupMaker(inputs, outputs).make();
}

}  // namespace mlx_kd::devices::cuda
