// Memory of objects that are made and ended by the thousand a second, by different threads.
//
// An operation of a graph is made by the thread that builds the graph and ended by that of its
// stream. The C library takes such blocks apart and joins them again, from cold memory: 0.4 us an
// operation of a program that holds many pins (bench/contract.py, a pinned call in a graph).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <new>

namespace mlx_kd::devices {

// Blocks of one size, the last one given back first. Any thread.
template <size_t kBytes>
class Recycled {
 public:
  static Recycled& shared() {
    static auto* const pool = new Recycled;  // graphs may end after static objects
    return *pool;
  }

  void* take() {
    const Held held(busy_);
    return count_ > 0 ? blocks_[--count_] : nullptr;
  }
  // False if it has enough: the block is the caller's still.
  bool give(void* block) {
    const Held held(busy_);
    if (count_ == blocks_.size()) return false;
    blocks_[count_++] = block;
    return true;
  }

 private:
  struct Held {
    explicit Held(std::atomic_flag& flag) : busy(flag) {
      while (busy.test_and_set(std::memory_order_acquire)) {
      }
    }
    ~Held() { busy.clear(std::memory_order_release); }
    std::atomic_flag& busy;
  };

  std::atomic_flag busy_;
  size_t count_ = 0;
  std::array<void*, 1024> blocks_;
};

// For std::allocate_shared.
template <class T>
struct RecycledMemory {
  using value_type = T;

  RecycledMemory() = default;
  template <class U>
  RecycledMemory(const RecycledMemory<U>&) {}

  T* allocate(size_t count) {
    if (count == 1)
      if (void* block = Recycled<sizeof(T)>::shared().take()) return static_cast<T*>(block);
    return static_cast<T*>(::operator new(count * sizeof(T)));
  }
  void deallocate(T* block, size_t count) {
    if (count != 1 || !Recycled<sizeof(T)>::shared().give(block)) ::operator delete(block);
  }
  friend bool operator==(const RecycledMemory&, const RecycledMemory&) { return true; }
};

}  // namespace mlx_kd::devices
