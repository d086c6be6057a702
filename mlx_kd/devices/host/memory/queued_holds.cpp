#include "mlx_kd/devices/host/memory/queued_holds.h"

#include <algorithm>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace mx = mlx::core;
using Memory = mx::array::Data;

constexpr double kPatience = 20e-6;  // seconds, to wait for a task that is letting go already
constexpr size_t kFewNotes = 64;

// What MLX keeps to itself can be named where a template is instantiated by hand.
template <auto member>
struct Descriptors {
  friend long count_descriptors(const mx::array& array) { return (array.*member).use_count(); }
};
long count_descriptors(const mx::array& array);
template struct Descriptors<&mx::array::array_desc_>;

// Holds of one memory. Its place is not used again while the weak pointer is there.
struct Note {
  std::weak_ptr<Memory> memory;
  std::vector<std::shared_ptr<const QueuedWork>> works;
};

class Notes {
 public:
  static Notes& of_thread() {
    static thread_local Notes notes;
    return notes;
  }

  Note* find(const Memory* memory) {
    if (notes_.empty()) return nullptr;
    const auto found = notes_.find(memory);
    return found == notes_.end() ? nullptr : &found->second;
  }

  Note& add(const std::shared_ptr<Memory>& memory) {
    if (Note* const there = find(memory.get())) return *there;
    if (notes_.size() >= next_sweep_) sweep();
    Note& note = notes_[memory.get()];
    note.memory = memory;
    return note;
  }

  // A note of the memory that a watched one becomes: nothing is held of it yet.
  void move(const Memory* from, const std::shared_ptr<Memory>& to) {
    auto note = notes_.extract(from);
    if (!note) return;
    note.key() = to.get();
    note.mapped().memory = to;
    note.mapped().works.clear();
    auto placed = notes_.insert(std::move(note));
    if (!placed.inserted) placed.position->second = std::move(placed.node.mapped());
  }

 private:
  void sweep() {
    std::erase_if(notes_, [](const auto& one) { return one.second.memory.expired(); });
    next_sweep_ = std::max(kFewNotes, 2 * notes_.size());
  }

  std::unordered_map<const Memory*, Note> notes_;
  size_t next_sweep_ = kFewNotes;
};

bool becomes_free(const std::shared_ptr<Memory>& memory) {
  for (const int64_t start = base::steady_ns(); base::seconds_since(start) < kPatience;) {
    if (memory.use_count() == 1) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace

void watch(const mx::array& array) {
  Notes::of_thread().add(array.data_shared_ptr());
}

bool is_watched(const mx::array& array) {
  return Notes::of_thread().find(array.data_shared_ptr().get()) != nullptr;
}

void note_hold(const mx::array& array, const std::shared_ptr<const QueuedWork>& work) {
  Note* const note = Notes::of_thread().find(array.data_shared_ptr().get());
  if (!note) return;
  auto& works = note->works;
  std::erase_if(works, [](const auto& one) { return one->has_ended(); });
  if (works.empty() || works.back() != work) works.push_back(work);
}

// Holders are counted before works: a work that has not ended then had its hold when they were.
bool is_held_by_queue_alone(const mx::array& array, const mx::Stream& stream) {
  const std::shared_ptr<Memory>& memory = array.data_shared_ptr();
  const long others = memory.use_count() - 1;
  if (others == 0) return true;
  const Note* const note = Notes::of_thread().find(memory.get());
  if (!note) return false;
  const auto ahead = std::count_if(note->works.begin(), note->works.end(),
                                   [&](const auto& one) { return one->is_ahead_of(stream); });
  return others == ahead ||
         (others <= static_cast<long>(note->works.size()) && becomes_free(memory));
}

long holders_of(const mx::array& array) {
  return count_descriptors(array);
}

void hand_over(const mx::array& array, mx::array& output) {
  Memory& memory = *array.data_shared_ptr();
  output.set_data(std::move(memory), array.data_size(), array.strides(), array.flags(),
                  array.offset());
  Notes::of_thread().move(&memory, output.data_shared_ptr());
}

}  // namespace mlx_kd::devices::cpu
