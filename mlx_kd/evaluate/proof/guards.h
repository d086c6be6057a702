// Memory that no kernel may touch, and who to name when one does.
//
// A worker calls report_faults_to() once. From then on a fault inside a registered range writes the
// range's text as one line to that descriptor and ends the process with kFaultExit; any other fault
// ends it as it would have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mlx_kd::evaluate {

inline constexpr int kFaultExit = 86;

// Not thread-safe; at most 1,024 ranges of at most 250 characters live at a time.
void register_guard(const void* begin, int64_t bytes, const std::string& line);
void clear_guards_within(const void* begin, int64_t bytes);
void report_faults_to(int fd);
// What every such line holds as well: the word by which the parent knows that it is genuine.
void sign_faults_with(const std::string& signature);

// Writable memory between two guard pages, for an output array of up to `capacity` bytes. The array
// is placed at either end, so that it borders a guard page there; on its other side a canary
// is.
class FencedBuffer {
 public:
  enum class Place { low, high };

  // `name`: of the output, for the text. Fails (exit 1) without memory.
  FencedBuffer(int64_t capacity, const std::string& name);
  FencedBuffer(const FencedBuffer&) = delete;
  FencedBuffer& operator=(const FencedBuffer&) = delete;
  ~FencedBuffer();

  // Where an array of `bytes` lies; fills it and writes the canary next to it.
  std::byte* poison(int64_t bytes, Place place, unsigned char pattern);
  // Whether the canary of the last poison() is whole.
  bool intact() const;

 private:
  std::byte* base_;   // the whole mapping, guard pages included
  int64_t capacity_;  // whole pages between the guards
  std::byte* canary_ = nullptr;
  int64_t canary_bytes_ = 0;
};

}  // namespace mlx_kd::evaluate
