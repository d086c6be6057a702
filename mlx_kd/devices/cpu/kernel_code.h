// The machine code of one kernel and how it is run over its units of work.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/kernel_arguments.h"
#include "mlx_kd/spec/op/limits.h"

namespace mlx_kd::devices::cpu {

// Abi::lists: computes units [begin, end) of the work. Row-major arrays in the op's order.
using KernelFunction = void (*)(const void* const* inputs, void* const* outputs, const long* dims,
                                const double* params, long begin, long end);
// Abi::arguments: the same for one stage.
using StageFunction = void (*)(const KernelArguments* arguments, long begin, long end);
// <stage>_runs, which a kernel may export: whether the stage has anything to do in this call. One
// that has not costs no meeting of threads.
using StageQuestion = bool (*)(const KernelArguments* arguments);

// A Call of Abi::arguments, made ready: everything but the arrays and scalars. Immutable.
struct StagedCall {
  struct Step {
    StageFunction function;
    StageQuestion runs;  // null: it always does
    int64_t units, grain;
    int threads;
    int64_t index;
    friend bool operator==(const Step&, const Step&) = default;
  };
  KernelArguments arguments = {};  // without pointers and scalars
  std::vector<Step> steps;
  std::vector<int64_t> scratch;      // bytes
  std::vector<int> updates;          // as Call has them
  std::vector<size_t> strided_axes;  // per input

  bool operator==(const StagedCall& other) const;
};

// A Call as the kernel takes it. One of Abi::lists has no memory of its own, so a copy costs
// nothing; one of Abi::arguments shares its StagedCall.
struct FlatCall {
  std::array<long, spec::kMostDims> dims = {};
  std::array<double, spec::kMostScalars> params = {};
  int64_t units = 0, grain = 1;
  int threads = 1;
  std::shared_ptr<const StagedCall> staged;

  bool has_work() const { return staged ? !staged->steps.empty() : units > 0; }
  friend bool operator==(const FlatCall& a, const FlatCall& b);
};

// A loaded object, for as long as it lives. Calls from several threads are safe.
class KernelCode {
 public:
  // Fails (exit 1) if the object cannot be loaded or lacks the function.
  KernelCode(const std::filesystem::path& object, const spec::Candidate& candidate);
  ~KernelCode();
  KernelCode(const KernelCode&) = delete;
  KernelCode& operator=(const KernelCode&) = delete;

  // Fails where the object lacks the function of a stage.
  FlatCall flatten(const Call& call) const;
  // The same, made once for a call that does not change but in its scalars.
  FlatCall flatten_once(const Call& call) const;

  // Runs all units of all stages on the calling thread or on the process's pool; returns when they
  // are done. `strides`: of the inputs, where they are not those of the call; null: as the call
  // says.
  void run(const void* const* inputs, void* const* outputs, const FlatCall& call,
           const Strides* strides = nullptr) const;
  // The same for a kernel that is proved or timed: float_mode_changes() counts the tasks that left
  // the floating-point mode of their thread changed.
  void run_watched(const void* const* inputs, void* const* outputs, const FlatCall& call) const;

  const std::string& op_name() const { return op_name_; }
  size_t input_count() const { return input_count_; }
  size_t output_count() const { return output_count_; }

 private:
  std::shared_ptr<const StagedCall> stage(const Call& call) const;
  StageFunction stage_function(const std::string& name) const;
  template <class Guard>
  void run_guarded(const void* const* inputs, void* const* outputs, const FlatCall& call,
                   const Strides* strides) const;
  template <class Guard>
  void run_stages(const void* const* inputs, void* const* outputs, const FlatCall& call,
                  const Strides* strides) const;

  const uint64_t number_;  // of Call::prepared
  std::string op_name_;
  size_t input_count_, output_count_;
  bool takes_arguments_;
  void* handle_ = nullptr;
  KernelFunction function_ = nullptr;  // of Abi::lists
  mutable std::mutex mutex_;
  mutable std::map<std::string, StageFunction> stages_;  // found so far, with the mutex held
};

}  // namespace mlx_kd::devices::cpu
