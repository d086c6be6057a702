// What the first call of a size makes and all later ones use: MLX's primitive of a kernel, for each
// that precompiled_cuda_kernel makes owns a copy of the cubin, or the work of a native primitive.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "mlx/primitives.h"

namespace mlx_kd::devices::cuda {

// `Key` compares equal where the launch, its numbers and the stream do. Thread-safe; the oldest of
// many sizes is forgotten, and made again when it comes back.
template <class Key, class Made = std::shared_ptr<mlx::core::Primitive>>
class Prepared {
 public:
  // nullptr if there is none yet.
  Made find(const Key& key) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, made] : kept_)
      if (known == key) return made;
    return nullptr;
  }
  // The one whose key `fits`.
  template <class Fits>
  Made find_if(const Fits& fits) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, made] : kept_)
      if (fits(known)) return made;
    return nullptr;
  }
  void keep(const Key& key, const Made& made) {
    const std::lock_guard lock(mutex_);
    if (kept_.size() >= kMost) kept_.erase(kept_.begin());
    kept_.emplace_back(key, made);
  }

 private:
  static constexpr size_t kMost = 32;
  mutable std::mutex mutex_;
  std::vector<std::pair<Key, Made>> kept_;
};

}  // namespace mlx_kd::devices::cuda
