#include "mlx_kd/discover/ranks/connection.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/discover/ranks/protocol.h"

namespace mlx_kd::discover {
namespace {

sockaddr_in socket_address(const std::string& address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  if (inet_pton(AF_INET, address.c_str(), &result.sin_addr) != 1)
    base::misuse("discover", "'" + address.substr(0, 80) +
                                 "' is not an IPv4 address: name one that the ranks reach");
  return result;
}

Socket new_socket() {
  Socket made(socket(AF_INET, SOCK_STREAM, 0));
  if (made.fd() < 0)
    base::fail("discover", std::string("no socket can be made (") + std::strerror(errno) +
                               "): raise ulimit -n");
  fcntl(made.fd(), F_SETFD, FD_CLOEXEC);
  return made;
}

const sockaddr* plain(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Connection::Connection(Socket socket) : socket_(std::move(socket)) {
  const int one = 1;
  setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd(), F_SETFL, fcntl(fd(), F_GETFL) | O_NONBLOCK);
}

// Frames are small and few: one that does not fit whole means that the other end has not read for
// long.
bool Connection::send(const base::Json& frame) {
  const std::string bytes = frame_bytes(frame);
  const ssize_t sent = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  return sent == static_cast<ssize_t>(bytes.size());
}

bool Connection::read() {
  char buffer[kMaxFrame];
  while (true) {
    const ssize_t size = recv(fd(), buffer, sizeof buffer, 0);
    if (size == 0) return false;
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    reader_.take({buffer, static_cast<size_t>(size)});
    if (size < static_cast<ssize_t>(sizeof buffer)) return true;
  }
}

ListeningSocket listen_at(const std::string& address) {
  sockaddr_in at = socket_address(address, 0);
  Socket made = new_socket();
  socklen_t size = sizeof at;
  if (bind(made.fd(), plain(at), sizeof at) != 0 || listen(made.fd(), SOMAXCONN) != 0 ||
      getsockname(made.fd(), reinterpret_cast<sockaddr*>(&at), &size) != 0)
    base::fail("discover", "rank 0 cannot listen at " + address + " (" + std::strerror(errno) +
                               "): give the launcher an address of the machine of rank 0");
  fcntl(made.fd(), F_SETFL, fcntl(made.fd(), F_GETFL) | O_NONBLOCK);
  return {std::move(made), ntohs(at.sin_port)};
}

Socket connect_to(const std::string& address, uint16_t port, double limit_s) {
  const sockaddr_in at = socket_address(address, port);
  const int64_t start = base::steady_ns();
  while (true) {
    Socket made = new_socket();
    fcntl(made.fd(), F_SETFL, O_NONBLOCK);
    int error = connect(made.fd(), plain(at), sizeof at) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd waiting{made.fd(), POLLOUT, 0};
      socklen_t size = sizeof error;
      poll(&waiting, 1, static_cast<int>(1000 * limit_s));
      if (!(waiting.revents & POLLOUT))
        error = ETIMEDOUT;
      else
        getsockopt(made.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return made;
    if (base::seconds_since(start) > limit_s)
      base::fail("discover", "rank 0 does not answer at " + address + ":" + std::to_string(port) +
                                 " (" + std::strerror(error) +
                                 "): let the machines' firewalls pass connections between ranks");
    usleep(50000);
  }
}

bool port_is_taken(const std::string& address, uint16_t port) {
  const sockaddr_in at = socket_address(address, port);
  const Socket made = new_socket();
  const int one = 1;
  setsockopt(made.fd(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  return bind(made.fd(), plain(at), sizeof at) != 0 && errno == EADDRINUSE;
}

}  // namespace mlx_kd::discover
