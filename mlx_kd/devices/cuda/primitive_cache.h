// MLX's primitive of a kernel, made by the first call of a size and used by all later ones: each
// that precompiled_cuda_kernel makes owns a copy of the cubin.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "mlx/primitives.h"

namespace mlx_kd::devices::cuda {

// `Key` compares equal where the launch, its numbers and the stream do. Thread-safe; the oldest of
// many sizes is forgotten, and made again when it comes back.
template <class Key>
class Prepared {
 public:
  using Primitive = std::shared_ptr<mlx::core::Primitive>;

  // nullptr if there is none yet.
  Primitive find(const Key& key) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, primitive] : kept_)
      if (known == key) return primitive;
    return nullptr;
  }
  void keep(const Key& key, const Primitive& primitive) {
    const std::lock_guard lock(mutex_);
    if (kept_.size() >= kMost) kept_.erase(kept_.begin());
    kept_.emplace_back(key, primitive);
  }

 private:
  static constexpr size_t kMost = 32;
  mutable std::mutex mutex_;
  std::vector<std::pair<Key, Primitive>> kept_;
};

}  // namespace mlx_kd::devices::cuda
