// A device: source -> artifact -> program -> launch on MLX arrays.
//
// Order of calls: Device::compile (any thread, any process; gives a file), Device::load (gives a
// Program), Program::launch (raw memory, the kernel's own time) or Program::call (a lazy MLX op).
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx/array.h"
#include "mlx/stream.h"
#include "mlx_kd/devices/accelerator.h"
#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/op/candidate.h"

namespace mlx_kd::devices {

struct Artifact {
  bool ok = false;
  std::filesystem::path path;  // the compiled object, in the cache
  std::string error;           // why not: the compiler's first error line, or the time limit
  bool timed_out = false;
  bool cached = false;    // found on disk, nothing was compiled
  double compile_ms = 0;  // what the compile took (when it was done, if cached)
};

// What a program prepared for a call, stored with the call; the first value stays. Safe from any
// thread. A copy of a call starts empty: to change a call that has one, change a copy.
class Prepared {
 public:
  Prepared() = default;
  Prepared(const Prepared&) {}
  Prepared& operator=(const Prepared&);
  ~Prepared() { delete kept_.load(); }

  // What `owner` kept; nullptr if nothing. An owner's number is unique in the process.
  const std::shared_ptr<const void>* of(uint64_t owner) const {
    const Kept* const kept = kept_.load(std::memory_order_acquire);
    return kept && kept->owner == owner ? &kept->made : nullptr;
  }
  void keep(uint64_t owner, std::shared_ptr<const void> made) const;

 private:
  struct Kept {
    uint64_t owner;
    std::shared_ptr<const void> made;
  };
  mutable std::atomic<const Kept*> kept_ = nullptr;
};

// What one call needs in addition to its arrays.
struct Call {
  spec::Dims dims;                   // complete
  std::vector<double> scalars = {};  // in the op's order
  std::vector<spec::Stage> stages = {};
  std::vector<spec::ArraySpec> inputs = {}, outputs = {};  // the op's ports at this size
  std::vector<int64_t> scratch = {};                       // bytes of each scratch array
  std::vector<int> updates = {};  // per output: the input whose memory it takes over, or -1
  // Per input: an array with as many axes as the port, the last contiguous, is not copied; its
  // strides are passed on.
  std::vector<bool> strided = {};
  std::vector<std::string> scalar_names = {};
  Prepared prepared = {};  // of all but the scalars

  const spec::Launch& launch() const { return stages.front().launch; }
  // Of an output that takes over an input's memory; empty `updates` means none does.
  int updated_input(size_t output) const { return output < updates.size() ? updates[output] : -1; }
  bool is_strided(size_t input) const { return input < strided.size() && strided[input]; }
  // Axes of a strided port; 0 of others.
  size_t strided_axes(size_t input) const {
    return is_strided(input) ? inputs[input].shape.size() : 0;
  }
};

// A call of a variant at a size; one of one stage where the launch is given.
Call make_call(const spec::Op& op, const spec::Variant& variant, spec::Dtype t,
               const spec::Dims& dims, const spec::Setting& knobs,
               const std::vector<double>& scalars);
Call make_call(const spec::Op& op, spec::Dtype t, const spec::Dims& dims,
               const std::vector<double>& scalars, std::vector<spec::Stage> stages);

// An op in MLX's own operators, on the given stream: Op::mlx.
using MlxForm = std::function<std::vector<mlx::core::array>(
    const std::vector<mlx::core::array>& inputs, std::span<const double> scalars,
    const mlx::core::Stream& stream)>;

// A gradient that is an operator of its own: one array per input, in order.
using VjpForm = std::function<std::vector<mlx::core::array>(
    const std::vector<mlx::core::array>& primals, const std::vector<mlx::core::array>& outputs,
    const std::vector<mlx::core::array>& cotangents, std::span<const double> scalars,
    const mlx::core::Stream& stream)>;

// How a lazy call joins a program's graph. What it points to lives as long as the process.
struct GraphCall {
  mlx::core::Stream stream;
  const MlxForm* form = nullptr;  // what vjp, jvp and vmap go through. nullptr: they throw
  const VjpForm* vjp = nullptr;   // what vjp goes through instead
};

// A loaded kernel of one candidate. Calls from several threads are safe; the object keeps its code
// loaded.
class Program {
 public:
  virtual ~Program() = default;

  // Runs all stages once and returns when they are done. Memory of the device, inputs and outputs
  // in the op's order, row-major unless call.inputs gives strides. None overlap, but an output that
  // updates an input has the input's pointer.
  virtual void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                      const Call& call) const = 0;

  // The same as a lazy MLX operation on the device's stream; inputs of any layout (copied if they
  // are not row-contiguous, unless the port is strided). Composes with mx::compile. Output shapes
  // may have other leading axes than call.outputs; types are those of call.outputs.
  virtual std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<spec::Shape>& output_shapes,
                                             const Call& call) const = 0;

  // call() on a stream of the device that the caller names, with the transformations of MLX's form.
  // Unless a device overrides it: call(), inside MLX's custom_function where an input is traced, on
  // the thread's default stream; empty where that is not graph.stream.
  virtual std::vector<mlx::core::array> add_to_graph(
      const std::vector<mlx::core::array>& inputs,
      const std::vector<mlx::core::Shape>& output_shapes, const Call& call,
      const GraphCall& graph) const;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const spec::DeviceId& id() const = 0;

  // "cpp", "metal", "cuda": it takes the variants written in one of these. At least one.
  virtual std::vector<std::string> languages() const = 0;

  // Thread-safe; at most timeout_s seconds. A refusal of the compiler is a value, a missing
  // compiler an error.
  virtual Artifact compile(const spec::Candidate& candidate, double timeout_s) const = 0;

  // Fails (exit 1) if the file is not what compile() wrote or cannot be loaded.
  virtual std::shared_ptr<Program> load(const Artifact& artifact,
                                        const spec::Candidate& candidate) const = 0;

  // Whether check() sees anything.
  virtual bool checks() const { return false; }
  // What a device that watches every access finds wrong with one call: data races, accesses beyond
  // an end, barriers that not all threads reach. A line each, with its place in the source; empty
  // where nothing is wrong. Row-major inputs, and the outputs' sizes in bytes. Slow: give it few
  // elements.
  virtual std::vector<std::string> check(const spec::Candidate&,
                                         const std::vector<std::span<const std::byte>>& /*inputs*/,
                                         const std::vector<size_t>& /*output_bytes*/,
                                         const Call&) const {
    return {};
  }

  // An object that compile() made elsewhere for such a device, given as its bytes: kept as if it
  // had been compiled here. Fails (exit 1) where the device has no such objects, or nowhere to keep
  // it.
  virtual Artifact adopt(std::string_view object, const spec::Candidate& candidate) const;

  // How its memory is reached and its calls are timed; null where both are the host's.
  virtual const Accelerator* accelerator() const { return nullptr; }

  // Whether its kernels cannot have arrays of that type.
  virtual bool lacks(spec::Dtype) const { return false; }
};

// Misuse, naming the device, a port and its type, where the op has a port of a type that the device
// lacks, or where T may not be `t`. Who opens a device for an op asks first.
void check_types(const Device& device, const spec::Op& op, spec::Dtype t, const spec::Dims& dims);

// Factories by kind ("cpu", "null", ...). Misuse, naming the known kinds and, for one that this
// machine lacks, what it would take. `null` compiles and runs nothing (devices/null/null_device.h
// has its times).
std::shared_ptr<const Device> open_device(const std::string& kind);

// The kind in what a user gives as a device: "cuda" of "cuda:1", where the device of that index is
// chosen for this process and those that it starts. Before any device is opened and before MLX runs
// anything. Misuse, naming how many there are, where there is none of that index, and for a kind
// that has no indices. Other names are left as they are.
std::string choose_device(const std::string& name);

// Whether an array that an output updates is copied before each call on such a device, even if
// nothing else holds it. False for an unknown kind.
bool copies_updates(const std::string& kind);

// Consecutive operations of this project as one operation of MLX's graph.
class OperationGroup {
 public:
  virtual ~OperationGroup() = default;
  // The same operations on inputs of the same shapes and types: lazy arrays, like the outputs that
  // the group was made from. Any thread; transformations throw.
  virtual std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs) const = 0;
};

// What lies between lazy arrays as a group. nullptr where no device runs all of that as one
// operation (devices/cuda/native_group.h says what one may hold).
std::shared_ptr<const OperationGroup> group_operations(
    const std::vector<mlx::core::array>& inputs, const std::vector<mlx::core::array>& outputs);

struct DeviceReport {
  std::string kind;
  bool available;
  std::string detail;  // "AMD EPYC, 2 cores, avx512f; g++ 12.2.0", or why not
};
// Every kind this build knows, available or not: `kd devices`, `kd doctor`.
std::vector<DeviceReport> list_devices();

}  // namespace mlx_kd::devices
