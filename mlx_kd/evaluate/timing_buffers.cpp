#include "mlx_kd/evaluate/timing_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/cache_flush.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int64_t kAlign = 64;
// Arrays follow each other with a gap, so that none lies a whole number of pages from another.
constexpr int64_t kGap = 320;

std::vector<int64_t> bytes_of(const std::vector<spec::Port>& ports, spec::Dtype dtype,
                              const spec::Dims& dims) {
  std::vector<int64_t> result;
  for (const auto& port : ports)
    result.push_back(spec::element_count(port.shape(dims)) * spec::size_of(dtype));
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

// Repeats `source` until `bytes` are filled.
void tile(void* to, int64_t bytes, const std::byte* source, int64_t source_bytes) {
  auto* at = static_cast<std::byte*>(to);
  for (int64_t done = 0; done < bytes; done += source_bytes)
    std::memcpy(at + done, source, static_cast<size_t>(std::min(source_bytes, bytes - done)));
}

}  // namespace

TimingBuffers::TimingBuffers(const spec::Op& op, spec::Dtype dtype, const spec::Dims& dims,
                             const Case& c, const std::byte* memory, int64_t l2_bytes,
                             const Bandwidth& bandwidth, const Protocol& protocol)
    : input_bytes_(bytes_of(op.inputs, dtype, dims)),
      output_bytes_(bytes_of(op.outputs, dtype, dims)) {
  const int64_t call_bytes = sum_of(input_bytes_) + sum_of(output_bytes_);
  cold_ = call_bytes > l2_bytes / 2;
  const double copy_us = op.cost(dims, dtype).bytes / bandwidth.cold;
  const int64_t sets =
      cold_ ? cold_sets(copy_us, protocol)
            : std::clamp<int64_t>(l2_bytes / 2 / call_bytes, 1, protocol.max_warm_sets);
  const int64_t set_bytes = padded(input_bytes_) + padded(output_bytes_);
  bytes_ = sets * set_bytes;
  void* at = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    base::fail("evaluate", "no memory for the arrays of " + dims.text() + ": free some memory");
  memory_ = static_cast<std::byte*>(at);
  std::memset(memory_, 0, static_cast<size_t>(bytes_));  // first touch now, not in a sample
  std::byte* next = memory_;
  const auto take = [&](int64_t bytes) {
    std::byte* const array = next;
    next += round_up(bytes, kAlign) + kGap;
    return array;
  };
  for (int64_t i = 0; i < sets; ++i) {
    Set& set = sets_.emplace_back();
    for (int64_t bytes : input_bytes_) set.inputs.push_back(take(bytes));
    for (int64_t bytes : output_bytes_) set.outputs.push_back(take(bytes));
    load(c, memory, sets_.size() - 1);
  }
}

TimingBuffers::~TimingBuffers() {
  munmap(memory_, static_cast<size_t>(bytes_));
}

void TimingBuffers::load(const Case& c, const std::byte* memory, size_t set) {
  for (size_t i = 0; i < input_bytes_.size(); ++i)
    tile(const_cast<void*>(sets_[set].inputs[i]), input_bytes_[i], memory + c.inputs[i].offset,
         c.inputs[i].bytes);
}

void TimingBuffers::flush_if_cold() const {
  if (cold_) flush_from_caches(memory_, static_cast<size_t>(bytes_));
}

}  // namespace mlx_kd::evaluate
