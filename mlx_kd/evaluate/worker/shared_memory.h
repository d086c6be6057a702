// Memory that the parent and its workers share: anonymous, gone when the last of them closes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_kd::evaluate {

// Owns the file descriptor of the memory (close-on-exec) and, where mapped, the mapping. Movable.
class SharedMemory {
 public:
  // New memory of `bytes` (at least one page), all zero. Fails (exit 1) if the system has none.
  static SharedMemory create(int64_t bytes);
  // The memory behind a descriptor that this process was given; takes it over.
  static SharedMemory adopt(int fd, int64_t bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  int fd() const { return fd_; }
  int64_t bytes() const { return bytes_; }
  // Maps all of it (or maps it again); writing to a read-only mapping is a fault.
  std::byte* map(bool writable);
  // The mapping stays, and a kernel cannot map the memory again.
  void close_descriptor();
  std::byte* data() const { return data_; }

 private:
  SharedMemory(int fd, int64_t bytes) : fd_(fd), bytes_(bytes) {}
  void unmap();
  int fd_;
  int64_t bytes_;
  std::byte* data_ = nullptr;
};

}  // namespace mlx_kd::evaluate
