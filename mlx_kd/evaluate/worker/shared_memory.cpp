#include "mlx_kd/evaluate/worker/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "mlx_kd/base/error.h"

namespace mlx_kd::evaluate {
namespace {

[[noreturn]] void fail_for(const std::string& what, int64_t bytes) {
  base::fail("evaluate", what + " " + std::to_string(bytes >> 10) +
                             " KiB of shared memory failed (" + std::strerror(errno) +
                             "): free some memory");
}

int open_anonymous() {
#if defined(__linux__)
  return memfd_create("mlx_kd", MFD_CLOEXEC);
#else
  const std::string name = "/mlx_kd." + std::to_string(getpid());
  const int fd = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd >= 0) shm_unlink(name.c_str());
  return fd;
#endif
}

}  // namespace

SharedMemory SharedMemory::create(int64_t bytes) {
  SharedMemory result(open_anonymous(), bytes);
  if (result.fd_ < 0 || ftruncate(result.fd_, bytes) != 0) fail_for("taking", bytes);
  return result;
}

SharedMemory SharedMemory::adopt(int fd, int64_t bytes) {
  return SharedMemory(fd, bytes);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      data_(std::exchange(other.data_, nullptr)) {}

SharedMemory::~SharedMemory() {
  unmap();
  if (fd_ >= 0) close(fd_);
}

void SharedMemory::close_descriptor() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void SharedMemory::unmap() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
  data_ = nullptr;
}

std::byte* SharedMemory::map(bool writable) {
  unmap();
  const int access = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* at = mmap(nullptr, static_cast<size_t>(bytes_), access, MAP_SHARED, fd_, 0);
  if (at == MAP_FAILED) fail_for("mapping", bytes_);
  return data_ = static_cast<std::byte*>(at);
}

}  // namespace mlx_kd::evaluate
