// Bodies of metal_kernel as machine code: compiled once per process and text.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "mlx_kd/devices/metal_text/metal_body.h"
#include "mlx_kd/devices/simt/program/module.h"

namespace mlx_kd::devices::simt {

// Immutable but for its fault. Launches from several threads are safe.
class BodyCode {
 public:
  BodyCode(std::shared_ptr<Module> module, const msl::Kernel& kernel, std::string place)
      : module_(std::move(module)), entry_(module_->entry(kernel)), place_(std::move(place)) {}

  // Returns when the kernel is done. False if it ended early; then the next call of metal_kernel
  // with it says why: an MLX operation that is already running cannot raise an error.
  bool run(const std::vector<void*>& buffers, Size3 grid, Size3 group, ThreadOrder order,
           uint64_t seed) const;

  // Fails (exit 1) if a run ended early since it was asked last.
  void require_no_fault() const;

 private:
  std::shared_ptr<Module> module_;
  Entry entry_;
  std::string place_;  // of the kernel in the Metal text
  mutable std::mutex mutex_;
  mutable std::string fault_;
};

// From memory, disk or the compiler; a text is compiled once, however many threads ask. Misuse with
// the place in the Metal text for what is not valid Metal. Fails (exit 1) without a compiler.
std::shared_ptr<const BodyCode> body_code(const MetalBody& body);

}  // namespace mlx_kd::devices::simt
