#include "mlx_kd/evaluate/time/timing_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/time/cache_flush.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int64_t kAlign = 64;
// Arrays follow each other with a gap, so that none lies a whole number of pages from another.
constexpr int64_t kGap = 320;

std::vector<int64_t> bytes_each(const std::vector<spec::Port>& ports, spec::Dtype t,
                                const spec::Dims& dims) {
  std::vector<int64_t> result;
  for (const spec::Port& port : ports) result.push_back(spec::array_of(port, t, dims).bytes());
  return result;
}

std::vector<int> updates_of(const spec::Op& op) {
  std::vector<int> result;
  for (size_t i = 0; i < op.outputs.size(); ++i) result.push_back(spec::updated_input(op, i));
  return result;
}

int64_t sum_of(const std::vector<int64_t>& values) {
  int64_t sum = 0;
  for (int64_t value : values) sum += value;
  return sum;
}

int64_t padded(const std::vector<int64_t>& values) {
  int64_t sum = 0;
  for (int64_t value : values) sum += round_up(value, kAlign) + kGap;
  return sum;
}

// Enough sets that the calls of a sample, even if it is as fast as can be, use none twice.
int64_t cold_sets(double copy_us, const Protocol& protocol) {
  const double least_us = copy_us * protocol.roofline_share;
  const auto sets = static_cast<int64_t>(std::ceil(protocol.sample_us / std::max(least_us, 1e-3)));
  return std::clamp<int64_t>(sets, 1, protocol.max_cold_sets);
}

void* host_memory(int64_t bytes, const spec::Dims& dims) {
  void* at = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    base::fail("evaluate", "no memory for the arrays of " + dims.text() + ": free some memory");
  std::memset(at, 0, static_cast<size_t>(bytes));  // first touch now, not in a sample
  return at;
}

}  // namespace

TimingBuffers::TimingBuffers(const spec::Op& op, spec::Dtype t, const spec::Dims& dims,
                             const Case& c, const std::byte* memory, int64_t l2_bytes,
                             const Bandwidth& bandwidth, const Protocol& protocol,
                             const devices::Accelerator* accelerator)
    : accelerator_(accelerator),
      input_bytes_(bytes_each(op.inputs, t, dims)),
      output_bytes_(bytes_each(op.outputs, t, dims)),
      updates_(updates_of(op)) {
  std::vector<int64_t> own_outputs;
  for (size_t i = 0; i < updates_.size(); ++i)
    if (updates_[i] < 0) own_outputs.push_back(output_bytes_[i]);
  const int64_t call_bytes = std::max<int64_t>(1, sum_of(input_bytes_) + sum_of(own_outputs));
  cold_ = call_bytes > l2_bytes / 2;
  const double copy_us = spec::cost_of(op, dims, t).bytes / bandwidth.cold;
  const int64_t sets =
      cold_ ? cold_sets(copy_us, protocol)
            : std::clamp<int64_t>(l2_bytes / 2 / call_bytes, 1, protocol.max_warm_sets);
  set_bytes_ = padded(input_bytes_) + padded(own_outputs);
  bytes_ = sets * set_bytes_;
  memory_ = static_cast<std::byte*>(accelerator_ ? accelerator_->allocate(bytes_)
                                                 : host_memory(bytes_, dims));
  std::byte* next = memory_;
  const auto take = [&](int64_t bytes) {
    std::byte* const array = next;
    next += round_up(bytes, kAlign) + kGap;
    return array;
  };
  for (int64_t i = 0; i < sets; ++i) {
    Set& set = sets_.emplace_back();
    for (int64_t bytes : input_bytes_) set.inputs.push_back(take(bytes));
    for (size_t k = 0; k < updates_.size(); ++k)
      set.outputs.push_back(updates_[k] < 0
                                ? take(output_bytes_[k])
                                : const_cast<void*>(set.inputs[static_cast<size_t>(updates_[k])]));
    load(c, memory, sets_.size() - 1);
  }
}

TimingBuffers::~TimingBuffers() {
  if (accelerator_)
    accelerator_->release(memory_);
  else
    munmap(memory_, static_cast<size_t>(bytes_));
}

// Repeats `source` until `bytes` are filled.
void TimingBuffers::tile(void* to, int64_t bytes, const std::byte* source,
                         int64_t source_bytes) const {
  auto* at = static_cast<std::byte*>(to);
  for (int64_t done = 0; done < bytes && source_bytes > 0; done += source_bytes) {
    const int64_t part = std::min(source_bytes, bytes - done);
    if (accelerator_)
      accelerator_->write(at + done, source, part);
    else
      std::memcpy(at + done, source, static_cast<size_t>(part));
  }
}

std::vector<TimingBuffers::Set> TimingBuffers::next(int calls) {
  std::vector<Set> result;
  for (int i = 0; i < calls; ++i) result.push_back(next());
  return result;
}

void TimingBuffers::poison(size_t set, unsigned char byte) {
  for (size_t i = 0; i < output_bytes_.size(); ++i) {
    if (updates_[i] >= 0) continue;
    void* const to = sets_[set].outputs[i];
    if (accelerator_)
      accelerator_->fill(to, byte, output_bytes_[i]);
    else
      std::memset(to, byte, static_cast<size_t>(output_bytes_[i]));
  }
}

std::vector<std::vector<std::byte>> TimingBuffers::read(size_t set,
                                                        const std::vector<int64_t>& bytes) const {
  std::vector<std::vector<std::byte>> result;
  for (size_t i = 0; i < bytes.size(); ++i) {
    auto& to = result.emplace_back(static_cast<size_t>(bytes[i]));
    const void* const from = sets_[set].outputs[i];
    if (accelerator_)
      accelerator_->read(to.data(), from, bytes[i]);
    else
      std::memcpy(to.data(), from, to.size());
  }
  return result;
}

void TimingBuffers::load(const Case& c, const std::byte* memory, size_t set) {
  for (size_t i = 0; i < input_bytes_.size(); ++i)
    tile(const_cast<void*>(sets_[set].inputs[i]), input_bytes_[i], memory + c.inputs[i].offset,
         c.inputs[i].bytes);
}

void TimingBuffers::flush_if_cold(int calls) const {
  if (!cold_ || accelerator_) return;
  const size_t count = std::min(static_cast<size_t>(calls), sets_.size());
  for (size_t i = 0; i < count; ++i) {
    const auto at = static_cast<int64_t>((turn_ + i) % sets_.size()) * set_bytes_;
    flush_from_caches(memory_ + at, static_cast<size_t>(set_bytes_));
  }
}

}  // namespace mlx_kd::evaluate
