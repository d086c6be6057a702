// A device: source -> artifact -> program -> launch on MLX arrays.
//
// Order of calls: Device::compile (any thread, any process; gives a file), Device::load (gives a
// Program), Program::launch (raw memory, the kernel's own time) or Program::call (a lazy MLX op).
#pragma once

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
#include "mlx_kd/spec/candidate.h"
#include "mlx_kd/spec/device_id.h"

namespace mlx_kd::devices {

struct Artifact {
  bool ok = false;
  std::filesystem::path path;  // the compiled object, in the cache
  std::string error;           // why not: the compiler's first error line, or the time limit
  bool timed_out = false;
  bool cached = false;    // found on disk, nothing was compiled
  double compile_ms = 0;  // what the compile took (when it was done, if cached)
};

// What one call needs beside its arrays.
struct Call {
  spec::Dims dims;             // complete
  std::vector<double> params;  // runtime inputs, in the op's order
  spec::Launch launch;
};

// An op in MLX's own operators, on the given stream; params as Call has them, or more.
using MlxForm = std::function<std::vector<mlx::core::array>(
    const std::vector<mlx::core::array>& inputs, std::span<const double> params,
    const mlx::core::Stream& stream)>;

// Where a lazy call stands in a program's graph.
struct Graft {
  mlx::core::Stream stream;
  const MlxForm* form = nullptr;  // what vjp, jvp and vmap go through; it lives as long as the
                                  // process. nullptr: they throw
};

// A loaded kernel of one candidate. Calls from several threads are safe; the object keeps its code
// loaded.
class Program {
 public:
  virtual ~Program() = default;

  // Runs the kernel once and returns when it is done. Row-major contiguous memory of the device,
  // inputs and outputs in the op's order, none overlapping.
  virtual void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                      const Call& call) const = 0;

  // The same as a lazy MLX operation on the device's stream; inputs of any layout (copied if not
  // row-contiguous). Composes with mx::compile. Output shapes and types are given.
  virtual std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<spec::Shape>& output_shapes,
                                             spec::Dtype output_dtype, const Call& call) const = 0;

  // call() on a stream of the device that the caller names, with the transformations of MLX's form.
  // Unless a device overrides it: call(), inside MLX's custom_function where an input is traced, on
  // the thread's default stream; empty where that is not graft.stream.
  virtual std::vector<mlx::core::array> graft(const std::vector<mlx::core::array>& inputs,
                                              const std::vector<mlx::core::Shape>& output_shapes,
                                              spec::Dtype output_dtype, const Call& call,
                                              const Graft& graft) const;
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
};

// Factories by kind ("cpu", "null", ...). Misuse, naming the known kinds and, for one that this
// machine lacks, what it would take. `null` compiles and runs nothing (devices/null/null_device.h
// has its times).
std::shared_ptr<const Device> open_device(const std::string& kind);

struct DeviceReport {
  std::string kind;
  bool available;
  std::string detail;  // "AMD EPYC, 2 cores, avx512f; g++ 12.2.0", or why not
};
// Every kind this build knows, available or not: `kd devices`, `kd doctor`.
std::vector<DeviceReport> list_devices();

}  // namespace mlx_kd::devices
