#include <cstdlib>
#include <cstring>
#include <new>

#include "mlx_kd/devices/simt/executor/group.h"
#include "mlx_kd/devices/simt/executor/monitor.h"

namespace mlx_kd::devices::simt {
namespace {

// Around every variable when a monitor watches: an index that runs over lands in no variable.
constexpr size_t kGap = size_t{64} << 10;
constexpr size_t kArena = size_t{8} << 20;
constexpr size_t kPlainArena = 2 * kMaxGroupBytes;
constexpr size_t kMaxAlignment = 64;

size_t round_up(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

GroupMemory::GroupMemory() : base_(nullptr) {}
GroupMemory::~GroupMemory() {
  std::free(base_);
}

void GroupMemory::start_launch(const std::vector<size_t>& group_bytes, Monitor* monitor) {
  monitor_ = monitor;
  const size_t bytes = monitor ? kArena : kPlainArena;
  std::free(base_);
  base_ = static_cast<char*>(std::aligned_alloc(4096, bytes));
  if (!base_) throw std::bad_alloc();
  // NaN and large negative numbers: a read before the first write shows.
  std::memset(base_, 0xff, bytes);
  used_ = 0;
  top_ = monitor ? kGap : 0;
  slots_.clear();
  arguments_.clear();
  for (size_t i = 0; i < group_bytes.size(); ++i)
    arguments_.push_back(cut(group_bytes[i], kMaxAlignment, -1 - static_cast<int>(i)));
}

void* GroupMemory::cut(size_t bytes, size_t alignment, int name) {
  used_ = round_up(used_, alignment) + bytes;
  top_ = round_up(top_, alignment);
  const size_t arena = monitor_ ? kArena : kPlainArena;
  if (used_ > kMaxGroupBytes || top_ + bytes + kGap > arena + (monitor_ ? 0 : kGap)) return nullptr;
  char* place = base_ + top_;
  top_ += bytes + (monitor_ ? kGap : 0);
  if (monitor_) monitor_->add_variable(name, place, bytes);
  return place;
}

void* GroupMemory::variable(unsigned slot, size_t bytes, size_t alignment) {
  if (slot >= slots_.size()) slots_.resize(slot + 1, nullptr);
  if (!slots_[slot]) slots_[slot] = cut(bytes, alignment, static_cast<int>(slot));
  return slots_[slot];
}

}  // namespace mlx_kd::devices::simt
