// A kernel of a pack on its way from source to program: compiled once per process, however many
// threads and pins ask for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::runtime {

enum class KernelState : uint8_t {
  unused,     // no call asked yet
  compiling,  // a thread is at it
  ready,
  dropped,  // it did not compile or load: never tried again in this process
};

std::string name_of(KernelState state);

class Kernel {
 public:
  // `object`: the kernel compiled ahead, as its bytes; empty: it is compiled from source. `of`: the
  // id of the pack's candidate, where this one is that at another size; empty: its own.
  Kernel(std::shared_ptr<const devices::Device> device, spec::Candidate candidate,
         std::string object, std::string of);
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // The program, or nullptr: dropped, or another thread is compiling and `wait` is false. The first
  // caller compiles. The pointer is good as long as this is. Any thread; never throws.
  const devices::Program* program(bool wait);
  const devices::Program* program_if_ready() const {
    return state_.load(std::memory_order_acquire) == KernelState::ready ? program_.get() : nullptr;
  }

  // Gives it up, and says so once on stderr.
  void drop(const std::string& why);

  KernelState state() const { return state_.load(std::memory_order_acquire); }
  std::string reason() const;  // why it was dropped
  double compile_ms() const;   // the time that the first caller spent
  bool cached() const;         // nothing was compiled
  const std::string& op_name() const { return candidate_.op_name; }
  const spec::Candidate& candidate() const { return candidate_; }
  // The process's kernel of the same text for arrays of other shapes.
  std::shared_ptr<Kernel> with_shapes(const base::Json& inputs_spec,
                                      const base::Json& outputs_spec) const;
  bool is(const devices::Device& device, const spec::Candidate& candidate,
          const std::string& object) const;

 private:
  std::string id_in_pack() const { return of_.empty() ? candidate_.id() : of_; }
  void build();

  const std::shared_ptr<const devices::Device> device_;
  const spec::Candidate candidate_;
  const std::string object_, of_;
  std::atomic<KernelState> state_{KernelState::unused};
  std::shared_ptr<const devices::Program> program_;  // written once, before `ready`
  mutable std::mutex mutex_;                         // of what follows
  std::condition_variable changed_;
  std::string reason_;
  double compile_ms_ = 0;
  bool cached_ = false;
};

// The process's kernel of that device, source, setting and type: pins of several sizes, and packs
// that are loaded again, share it. Kept as long as the process, unless no call asked for its
// program and no pin has it any more. Thread-safe.
std::shared_ptr<Kernel> kernel_of(const std::shared_ptr<const devices::Device>& device,
                                  const spec::Candidate& candidate, const std::string& object,
                                  const std::string& of = "");

// All of them.
std::vector<std::shared_ptr<Kernel>> all_kernels();

}  // namespace mlx_kd::runtime
