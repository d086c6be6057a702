#include "mlx_kd/devices/simt/executor/checker.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::simt {
namespace {

// Accesses that miss by less are attributed to the memory that they miss.
constexpr size_t kRoom = size_t{64} << 10;
constexpr size_t kMaxFindings = 1000;

}  // namespace

void* Checker::add_buffer(const std::string& name, size_t bytes) {
  bytes_ += bytes;
  if (bytes_ > kMaxBytes)
    base::misuse("simt", "buffers of more than " + std::to_string(kMaxBytes) +
                             " bytes cannot be checked: give smaller ones");
  memory_.push_back(std::make_unique<char[]>(bytes + 2 * kRoom + 64));
  char* begin = memory_.back().get() + kRoom;
  begin += (64 - reinterpret_cast<uintptr_t>(begin) % 64) % 64;
  regions_[begin] = {name, begin, bytes, false, std::vector<Cell>(bytes)};
  return begin;
}

void Checker::add_variable(int name, const void* begin, size_t bytes) {
  const auto* first = static_cast<const char*>(begin);
  const std::string text = name >= 0 ? "slot " + std::to_string(name)
                                     : "threadgroup argument " + std::to_string(-1 - name);
  regions_[first] = {text, first, bytes, true, std::vector<Cell>(bytes)};
  last_ = nullptr;
}

void Checker::start_group(uint64_t group) {
  group_ = group;
  epoch_[0] = epoch_[1] = 1;
  for (auto& list : simd_epoch_) std::fill(std::begin(list), std::end(list), 1);
  for (auto& [begin, region] : regions_)
    if (region.group_memory) std::fill(region.cells.begin(), region.cells.end(), Cell());
}

void Checker::pass_barrier(int flags) {
  for (int memory = 0; memory < 2; ++memory)
    if (flags >> memory & 1) ++epoch_[memory];
}

void Checker::pass_simd_barrier(uint32_t simdgroup, int flags) {
  for (int memory = 0; memory < 2; ++memory)
    if (flags >> memory & 1) ++simd_epoch_[memory][simdgroup & 31];
}

Checker::Region* Checker::find(const char* address, bool& inside) {
  const auto within = [&](const Region& region) {
    return address >= region.begin && address < region.begin + region.bytes;
  };
  inside = true;
  if (last_ && within(*last_)) return last_;
  auto next = regions_.upper_bound(address);
  if (next != regions_.begin() && within(std::prev(next)->second))
    return last_ = &std::prev(next)->second;
  inside = false;
  if (next != regions_.begin()) {
    Region& before = std::prev(next)->second;
    if (address < before.begin + before.bytes + kRoom) return &before;
  }
  if (next != regions_.end() && address + kRoom >= next->second.begin) return &next->second;
  return nullptr;
}

void Checker::touch(const void* address, size_t bytes, Access kind, const void* code,
                    uint32_t thread) {
  bool inside = false;
  const auto* at = static_cast<const char*>(address);
  Region* region = find(at, inside);
  if (!region) return;
  const bool writes = kind == Access::write || kind == Access::atomic_write;
  const auto byte = static_cast<int64_t>(at - region->begin);
  if (!inside || static_cast<size_t>(byte) + bytes > region->bytes) {
    if (options_.memory)
      report(
          {Finding::Kind::beyond, region->name, byte, group_, thread, 0, 0, writes, false, code});
    return;
  }
  Mark mark;
  mark.code = code;
  mark.group = group_;
  mark.epoch = epoch_[region->group_memory];
  mark.simd_epoch = simd_epoch_[region->group_memory][(thread / 32) & 31];
  mark.thread = static_cast<uint16_t>(thread);
  mark.set = true;
  mark.atomic = kind == Access::atomic_read || kind == Access::atomic_write;
  for (size_t i = 0; i < bytes; ++i) visit(*region, static_cast<size_t>(byte) + i, mark, writes);
}

bool Checker::ordered(const Region& region, const Mark& before, const Mark& now) const {
  if (!before.set || (before.atomic && now.atomic)) return true;
  if (before.group != now.group) return region.group_memory;
  if (before.thread == now.thread || before.epoch < now.epoch) return true;
  return before.thread / 32 == now.thread / 32 && before.simd_epoch < now.simd_epoch;
}

void Checker::visit(Region& region, size_t byte, const Mark& mark, bool writes) {
  Cell& cell = region.cells[byte];
  if (options_.memory && region.group_memory && !writes && !cell.write.set)
    report({Finding::Kind::uninitialised, region.name, static_cast<int64_t>(byte), group_,
            mark.thread, 0, 0, false, false, mark.code});
  if (options_.races) {
    if (!ordered(region, cell.write, mark)) race(region, byte, cell.write, true, mark, writes);
    if (writes)
      for (const Mark& read : {cell.read, cell.other_read})
        if (!ordered(region, read, mark)) race(region, byte, read, false, mark, true);
  }
  if (writes) {
    cell.write = mark;
  } else {
    if (cell.read.set && cell.read.thread != mark.thread) cell.other_read = cell.read;
    cell.read = mark;
  }
}

void Checker::race(const Region& region, size_t byte, const Mark& before, bool before_writes,
                   const Mark& now, bool writes) {
  report({Finding::Kind::race, region.name, static_cast<int64_t>(byte), now.group, now.thread,
          before.group, before.thread, writes, before_writes, now.code, before.code});
}

void Checker::divergent(int site, bool barrier, uint32_t thread) {
  Finding finding;
  finding.kind = barrier ? Finding::Kind::divergent_barrier : Finding::Kind::divergent_simd;
  finding.group = group_;
  finding.thread = thread;
  finding.site = site;
  report(finding);
}

void Checker::report(Finding finding) {
  const auto key = std::make_tuple(static_cast<int>(finding.kind), finding.code, finding.other_code,
                                   finding.site);
  const auto [place, fresh] = known_.emplace(key, findings_.size());
  if (!fresh)
    ++findings_[place->second].count;
  else if (findings_.size() < kMaxFindings)
    findings_.push_back(std::move(finding));
  else
    known_.erase(place);
}

}  // namespace mlx_kd::devices::simt
