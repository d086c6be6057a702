// A TCP connection that carries frames, and the sockets that make one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mlx_kd/discover/ranks/frames.h"

namespace mlx_kd::discover {

// Closes it when it goes. Movable.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int fd() const { return fd_; }

 private:
  int fd_;
};

// One end. Nothing here waits. One thread reads; several may send.
class Connection {
 public:
  explicit Connection(Socket socket);
  int fd() const { return socket_.fd(); }
  // False where the other end is gone, or does not read what it is sent.
  bool send(const base::Json& frame);
  // Takes in what has arrived; false at the end of the stream.
  bool read();
  std::optional<base::Json> next() { return reader_.next(); }

 private:
  Socket socket_;
  FrameReader reader_;
};

struct ListeningSocket {
  Socket socket;
  uint16_t port;
};

// Listens at an IPv4 address, at a port that the system chooses. Fails (room discover) where this
// machine does not have the address.
ListeningSocket listen_at(const std::string& address);

// Fails (room discover) where there is no answer within the limit.
Socket connect_to(const std::string& address, uint16_t port, double limit_s);

// Whether something listens at that port of this machine's address already.
bool port_is_taken(const std::string& address, uint16_t port);

}  // namespace mlx_kd::discover
