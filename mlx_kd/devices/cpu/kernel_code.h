// The machine code of one kernel and how it is run over its units of work.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/spec/limits.h"

namespace mlx_kd::devices::cpu {

// Computes units [begin, end) of the work. Row-major contiguous arrays in the op's order.
using KernelFunction = void (*)(const void* const* inputs, void* const* outputs, const long* dims,
                                const double* params, long begin, long end);

// A Call as the kernel takes it; no memory of its own, so a copy costs nothing.
struct FlatCall {
  std::array<long, spec::kMostDims> dims = {};
  std::array<double, spec::kMostScalars> params = {};
  int64_t units = 0, grain = 1;
  int threads = 1;

  friend bool operator==(const FlatCall&, const FlatCall&) = default;
};

// Fails where there are more dims or params than a kernel takes.
FlatCall flatten(const Call& call);

// A loaded object, for as long as it lives. Immutable: calls from several threads are safe.
class KernelCode {
 public:
  // Fails (exit 1) if the object cannot be loaded or lacks the function.
  KernelCode(const std::filesystem::path& object, const spec::Candidate& candidate);
  ~KernelCode();
  KernelCode(const KernelCode&) = delete;
  KernelCode& operator=(const KernelCode&) = delete;

  // Runs all units on the calling thread or on the process's pool; returns when they are done.
  void run(const void* const* inputs, void* const* outputs, const FlatCall& call) const;

  const std::string& op_name() const { return op_name_; }
  size_t input_count() const { return input_count_; }
  size_t output_count() const { return output_count_; }
  spec::Dtype dtype() const { return dtype_; }

 private:
  std::string op_name_;
  size_t input_count_, output_count_;
  spec::Dtype dtype_;
  void* handle_ = nullptr;
  KernelFunction function_ = nullptr;
};

}  // namespace mlx_kd::devices::cpu
