#include "mlx_kd/devices/simt/executor/group.h"

#include <algorithm>

#include "mlx_kd/devices/simt/executor/monitor.h"
#include "mlx_kd/devices/simt/executor/stack_pool.h"

namespace mlx_kd::devices::simt {
namespace {

// Stacks start at different places of their pages, or all would share few lines of the cache.
size_t stagger(int thread) {
  return static_cast<size_t>(thread) * 320 % 8192;
}

template <class T>
void shuffle(std::vector<T>& list, size_t first, size_t last, base::Random& random) {
  for (size_t i = last; i > first + 1; --i)
    std::swap(list[i - 1], list[first + random.below(i - first)]);
}

}  // namespace

Worker*& current_worker() {
  static thread_local Worker* worker = nullptr;
  return worker;
}

Worker::Worker(const Job& job) : job_(job), random_(job.options.seed) {
  const auto threads = static_cast<size_t>(job.group[0]) * job.group[1] * job.group[2];
  stacks_ = take_stacks(loops() ? 1 : threads);
  fibers_.resize(threads);
  places_.resize(threads);
  memory_.start_launch(job.group_bytes, job.options.monitor);
  current_worker() = this;
}

Worker::~Worker() {
  current_worker() = nullptr;
  give_stacks(std::move(stacks_));
}

kd_group Worker::place_of(uint64_t g) const {
  kd_group place;
  for (int d = 0; d < 3; ++d) {
    place.group[d] = static_cast<uint32_t>(g % job_.groups[d]);
    g /= job_.groups[d];
    place.groups[d] = job_.groups[d];
    place.grid[d] = job_.grid[d];
    place.dispatch[d] = job_.group[d];
    place.origin[d] = place.group[d] * job_.group[d];
    place.size[d] = std::min(job_.group[d], job_.grid[d] - place.origin[d]);
  }
  return place;
}

// The place of the group that follows.
void Worker::advance(kd_group& place) const {
  for (int d = 0; d < 3; ++d) {
    place.group[d] = place.group[d] + 1 == job_.groups[d] ? 0 : place.group[d] + 1;
    place.origin[d] = place.group[d] * job_.group[d];
    place.size[d] = std::min(job_.group[d], job_.grid[d] - place.origin[d]);
    if (place.group[d] != 0) return;
  }
}

bool Worker::run(uint64_t g) {
  const kd_group place = place_of(g);
  if (monitor()) monitor()->start_group(g);
  run_fibers(place);
  return fault_ == nullptr;
}

bool Worker::run_loops(uint64_t first, uint64_t last) {
  loop_first_ = first;
  loop_last_ = last;
  prepare(fibers_[0].context, stacks_->at(0), Stacks::kBytes, loop_main);
  switch_to(main_, fibers_[0].context);
  return fault_ == nullptr;
}

void Worker::loop_main() {
  Worker& self = *current_worker();
  const Job& job = self.job_;
  self.running_ = true;
  kd_group place = self.place_of(self.loop_first_);
  for (uint64_t g = self.loop_first_; g < self.loop_last_ && !job.stop; ++g) {
    job.entry.group(job.buffers.data(), self.memory_.arguments(), &place);
    self.advance(place);
  }
  self.running_ = false;
  switch_to(self.fibers_[0].context, self.main_);
}

void Worker::start_fibers(const kd_group& place) {
  threads_ = static_cast<int>(place.size[0] * place.size[1] * place.size[2]);
  int i = 0;
  for (uint32_t z = 0; z < place.size[2]; ++z)
    for (uint32_t y = 0; y < place.size[1]; ++y)
      for (uint32_t x = 0; x < place.size[0]; ++x, ++i) {
        kd_thread& thread = places_[static_cast<size_t>(i)];
        const uint32_t local[3] = {x, y, z};
        for (int d = 0; d < 3; ++d) {
          thread.position[d] = place.origin[d] + local[d];
          thread.local[d] = local[d];
          thread.group[d] = place.group[d];
          thread.groups[d] = place.groups[d];
          thread.grid[d] = place.grid[d];
          thread.size[d] = place.size[d];
          thread.dispatch[d] = place.dispatch[d];
        }
        thread.index = static_cast<uint32_t>(i);
        thread.threads = static_cast<uint32_t>(threads_);
        fibers_[i].state = State::ready;
        prepare(fibers_[i].context, stacks_->at(i), Stacks::kBytes - stagger(i), fiber_main);
      }
}

// Simdgroups one after another, each with its lanes together.
void Worker::order_threads() {
  const ThreadOrder order = job_.options.order;
  if (order != ThreadOrder::random && static_cast<int>(order_.size()) == threads_) return;
  std::vector<int> groups((threads_ + 31) / 32);
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i);
  if (order == ThreadOrder::reverse) std::reverse(groups.begin(), groups.end());
  if (order == ThreadOrder::random) shuffle(groups, 0, groups.size(), random_);
  order_.clear();
  simdgroups_.clear();
  for (const int group : groups) {
    const auto first = order_.size();
    for (int i = 32 * group; i < std::min(32 * group + 32, threads_); ++i) order_.push_back(i);
    if (order == ThreadOrder::reverse)
      std::reverse(order_.begin() + static_cast<long>(first), order_.end());
    if (order == ThreadOrder::random) shuffle(order_, first, order_.size(), random_);
    simdgroups_.push_back({static_cast<int>(first), static_cast<int>(order_.size())});
  }
}

void Worker::run_fibers(const kd_group& place) {
  start_fibers(place);
  order_threads();
  simdgroup_ = 0;
  position_ = 0;
  current_ = next_fiber();
  switch_to(main_, fibers_[current_].context);
}

void Worker::fiber_main() {
  Worker& self = *current_worker();
  self.running_ = true;
  Fiber& fiber = self.fibers_[self.current_];
  self.job_.entry.thread(self.job_.buffers.data(), self.memory_.arguments(),
                         &self.places_[static_cast<size_t>(self.current_)]);
  fiber.state = State::done;
  self.yield();
}

// Leaves the current fiber, which is not ready, for the next one that is.
void Worker::yield() {
  Fiber& from = fibers_[current_];
  busy_ = true;
  const int next = next_fiber();
  busy_ = false;
  if (next < 0) {
    running_ = false;
    switch_to(from.context, main_);
    return;
  }
  if (next == current_) return;
  current_ = next;
  switch_to(from.context, fibers_[next].context);
}

int Worker::next_fiber() {
  while (true) {
    const Simdgroup lanes = simdgroups_[simdgroup_];
    for (; position_ < lanes.last; ++position_)
      if (fibers_[order_[position_]].state == State::ready) return order_[position_++];
    if (!settle(lanes)) {
      if (++simdgroup_ == simdgroups_.size()) {
        if (!settle_group()) return -1;
        simdgroup_ = 0;
      }
    }
    position_ = simdgroups_[simdgroup_].first;
  }
}

// No lane is ready: completes what can be completed. False if all wait for the other simdgroups.
bool Worker::settle(const Simdgroup& lanes) {
  int site = -1, simd_barriers = 0, flags = 0;
  for (int p = lanes.first; p < lanes.last; ++p) {
    const Fiber& fiber = fibers_[order_[p]];
    if (fiber.state == State::simd && (site < 0 || fiber.site < site)) site = fiber.site;
    if (fiber.state == State::simd_barrier) ++simd_barriers, flags = fiber.flags;
  }
  if (site >= 0) {
    exchange(lanes, site);
    return true;
  }
  if (simd_barriers == 0) return false;
  if (monitor())
    monitor()->pass_simd_barrier(static_cast<uint32_t>(order_[lanes.first]) / 32, flags);
  for (int p = lanes.first; p < lanes.last; ++p)
    if (fibers_[order_[p]].state == State::simd_barrier) fibers_[order_[p]].state = State::ready;
  return true;
}

void Worker::exchange(const Simdgroup& lanes, int site) {
  unsigned active = 0;
  const void* in[32];
  void* out[32];
  kd_combine combine = nullptr;
  for (int p = lanes.first; p < lanes.last; ++p) {
    const int thread = order_[p];
    Fiber& fiber = fibers_[thread];
    if (fiber.state == State::done) continue;
    if (fiber.state != State::simd || fiber.site != site) {
      divergent_simd_ = site;
      if (monitor()) monitor()->divergent(site, false, static_cast<uint32_t>(thread));
      continue;
    }
    active |= 1u << (thread & 31);
    in[thread & 31] = fiber.in;
    out[thread & 31] = fiber.out;
    combine = fiber.combine;
    fiber.state = State::ready;
  }
  combine(active, in, out);
}

// All threads wait at a barrier or are done. False if all are done.
bool Worker::settle_group() {
  int waiting = 0, site = -1, flags = 0, odd = -1;
  for (int i = 0; i < threads_; ++i) {
    Fiber& fiber = fibers_[i];
    if (fiber.state == State::done) continue;
    if (site >= 0 && fiber.site != site) odd = i;
    site = fiber.site;
    flags |= fiber.flags;
    fiber.state = State::ready;
    ++waiting;
  }
  if (waiting == 0) return false;
  if (waiting < threads_ || odd >= 0) {
    divergent_barrier_ = site;
    if (monitor()) monitor()->divergent(site, true, static_cast<uint32_t>(std::max(odd, 0)));
  }
  if (monitor()) monitor()->pass_barrier(flags);
  return true;
}

// A kernel whose calls were misread runs as loops, and must end with a message where threads meet.
void Worker::expect_fibers() {
  if (loops()) abandon("threads meet in a kernel that was read as one without: report the kernel");
}

void Worker::barrier(int site, int kind, int flags) {
  expect_fibers();
  Fiber& fiber = fibers_[current_];
  fiber.site = site;
  fiber.flags = flags;
  fiber.state = kind == 0 ? State::barrier : State::simd_barrier;
  yield();
}

void Worker::meet(int site, int, const void* in, void* out, kd_combine combine) {
  expect_fibers();
  Fiber& fiber = fibers_[current_];
  fiber.site = site;
  fiber.in = in;
  fiber.out = out;
  fiber.combine = combine;
  fiber.state = State::simd;
  yield();
}

void Worker::touch(const void* address, size_t bytes, int kind, const void* code) {
  const Busy busy(*this);
  monitor()->touch(address, bytes, static_cast<Access>(kind), code,
                   static_cast<uint32_t>(current_));
}

void* Worker::shared(unsigned slot, size_t bytes, size_t alignment) {
  void* place = nullptr;
  {
    const Busy busy(*this);
    place = memory_.variable(slot, bytes, alignment);
  }
  if (!place) abandon("threadgroup memory beyond the 32 KiB that Metal allows");
  return place;
}

void Worker::abandon(const char* why) {
  if (!running_ || busy_) return;
  running_ = false;
  fault_ = why;
  Context nowhere;
  switch_to(nowhere, main_);
}

}  // namespace mlx_kd::devices::simt
