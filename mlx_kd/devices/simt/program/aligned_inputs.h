// Metal lets a kernel read an array in pieces of 16 bytes; MLX's arrays on a CPU start anywhere.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace mlx_kd::devices::simt {

inline constexpr size_t kAlignment = 16;

// Copies of those inputs that do not start at a multiple of 16 bytes.
class AlignedInputs {
 public:
  // The memory that a kernel may have for `input`, good as long as this is. `before` and `behind`:
  // the bytes that it may read on either side of the pointer.
  void* add(const void* input, size_t before, size_t behind) {
    const auto* bytes = static_cast<const char*>(input);
    if (reinterpret_cast<uintptr_t>(input) % kAlignment == 0) return const_cast<void*>(input);
    const size_t front = (before + kAlignment - 1) / kAlignment * kAlignment;
    const size_t size = (front + behind + kAlignment) / kAlignment * kAlignment;
    char* const copy = static_cast<char*>(std::aligned_alloc(kAlignment, size));
    if (!copy) throw std::bad_alloc();
    copies_.emplace_back(copy);
    std::memcpy(copy + front - before, bytes - before, before + behind);
    return copy + front;
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<void, Free>> copies_;
};

}  // namespace mlx_kd::devices::simt
