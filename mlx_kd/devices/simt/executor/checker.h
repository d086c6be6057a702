// Finds what goes wrong only sometimes: data races, accesses beyond the end, reads of threadgroup
// memory that no thread wrote, barriers and simd functions that not all threads reach.
//
// One access conflicts with another of the same byte if one of them writes, not both are atomic,
// different threads make them, and nothing orders them: a barrier of the threadgroup whose flags
// name that memory, or a simdgroup barrier between lanes of one simdgroup. Groups are never
// ordered.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/executor/monitor.h"

namespace mlx_kd::devices::simt {

struct CheckOptions {
  bool races = true;
  bool memory = true;
};

struct Finding {
  enum class Kind : uint8_t { race, beyond, uninitialised, divergent_barrier, divergent_simd };
  Kind kind;
  std::string memory;        // the buffer's or variable's name; "slot 3" for threadgroup variables
  int64_t byte = 0;          // in it; negative or beyond its size for accesses outside
  uint64_t group = 0;        // linear index of the threadgroup
  uint32_t thread = 0;       // index in it, of the access found last
  uint64_t other_group = 0;  // races: of the access found first
  uint32_t other_thread = 0;
  bool writes = false;
  bool other_writes = false;
  const void* code = nullptr;  // where the access is: Module::line_of
  const void* other_code = nullptr;
  int site = -1;       // of what diverges
  uint64_t count = 1;  // how often the same two places met
};

class Checker : public Monitor {
 public:
  // The most bytes of buffers that can be watched: their shadow takes 40 times as much.
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  explicit Checker(CheckOptions options) : options_(options) {}

  // Memory for a buffer, with room around it in which accesses beyond its ends are seen. Misuse if
  // all buffers together exceed kMaxBytes.
  void* add_buffer(const std::string& name, size_t bytes);

  // One finding for each pair of places, in the order in which they came up.
  const std::vector<Finding>& findings() const { return findings_; }

  void start_group(uint64_t group) override;
  void add_variable(int name, const void* begin, size_t bytes) override;
  void touch(const void* address, size_t bytes, Access kind, const void* code,
             uint32_t thread) override;
  void pass_barrier(int flags) override;
  void pass_simd_barrier(uint32_t simdgroup, int flags) override;
  void divergent(int site, bool barrier, uint32_t thread) override;

 private:
  struct Mark {  // one access
    const void* code = nullptr;
    uint64_t group = 0;
    uint32_t epoch = 0;
    uint32_t simd_epoch = 0;
    uint16_t thread = 0;
    bool set = false;
    bool atomic = false;
  };
  struct Cell {
    Mark write, read, other_read;
  };
  struct Region {
    std::string name;
    const char* begin;
    size_t bytes;
    bool group_memory;
    std::vector<Cell> cells;
  };

  Region* find(const char* address, bool& inside);
  void visit(Region& region, size_t byte, const Mark& mark, bool writes);
  bool ordered(const Region& region, const Mark& before, const Mark& now) const;
  void report(Finding finding);
  void race(const Region& region, size_t byte, const Mark& before, bool before_writes,
            const Mark& now, bool writes);

  CheckOptions options_;
  std::vector<std::unique_ptr<char[]>> memory_;
  std::map<const char*, Region> regions_;  // by their first byte
  Region* last_ = nullptr;
  size_t bytes_ = 0;
  uint64_t group_ = 0;
  uint32_t epoch_[2] = {1, 1};  // device, threadgroup
  uint32_t simd_epoch_[2][32] = {};
  std::vector<Finding> findings_;
  std::map<std::tuple<int, const void*, const void*, int>, size_t> known_;
};

}  // namespace mlx_kd::devices::simt
