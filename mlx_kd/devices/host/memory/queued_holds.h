// Whether an array may be overwritten while MLX still holds its memory: tasks of a CPU stream hold
// it, and they run in order.
//
// MLX's task of an operation holds the memory of its inputs, and of all outputs but one, until the
// stream's thread has run it. For a cache that is written at every token this would mean to wait
// for the token before, or to copy. So the operations of HostPrimitive note which memory MLX will
// hold for them: who is left when those are subtracted may look at the array.
#pragma once

#include <atomic>
#include <memory>

#include "mlx/array.h"
#include "mlx/stream.h"

namespace mlx_kd::devices::cpu {

// The work of one operation on a stream's thread. MLX queues its own task, which holds memory,
// right behind it, so that the memory is held for as long as the work has not ended.
class QueuedWork {
 public:
  explicit QueuedWork(const mlx::core::Stream& stream) : stream_(stream.index) {}

  void end() const { has_ended_.store(true, std::memory_order_release); }
  bool is_ahead_of(const mlx::core::Stream& stream) const {
    return stream_ == stream.index && !has_ended();
  }
  bool has_ended() const { return has_ended_.load(std::memory_order_acquire); }

 private:
  const int stream_;
  mutable std::atomic<bool> has_ended_ = false;
};

// Notes are the calling thread's own: on another thread an array counts as held by somebody.

// Holds of the array's memory are noted from here on.
void watch(const mlx::core::array& array);
bool is_watched(const mlx::core::array& array);

// MLX's task behind `work`, which was queued last, will hold the memory of the array once, however
// often it is noted. Nothing is noted of an array that is not watched.
void note_hold(const mlx::core::array& array, const std::shared_ptr<const QueuedWork>& work);

// Whether nothing but tasks that were queued before on the stream holds the array's memory, which
// is MLX's own. The caller holds the array in one place.
bool is_held_by_queue_alone(const mlx::core::array& array, const mlx::core::Stream& stream);

// How many places hold the array itself (not its memory).
long holders_of(const mlx::core::array& array);

// Moves the memory of an array that is no longer read to `output`, with its layout. Queued tasks
// keep their pointers into it; the array is left without memory.
void hand_over(const mlx::core::array& array, mlx::core::array& output);

}  // namespace mlx_kd::devices::cpu
