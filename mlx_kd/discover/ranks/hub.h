// The thread of rank 0 that all ranks are connected to (protocol.h).
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "mlx_kd/discover/ranks/connection.h"
#include "mlx_kd/discover/ranks/process_name.h"
#include "mlx_kd/discover/ranks/protocol.h"
#include "mlx_kd/discover/ranks/waiting.h"

namespace mlx_kd::discover {

class Hub {
 public:
  struct Settings {
    std::string address;
    std::string secret;
    int size;
    RankLimits limits;
  };
  // Listens when this returns. Fails (room discover) as listen_at.
  explicit Hub(const Settings& settings);
  // Waits until every rank is done or lost.
  ~Hub();
  uint16_t port() const { return port_; }

 private:
  struct Peer {
    explicit Peer(Socket socket, int64_t now)
        : connection(std::move(socket)), nonce(random_hex(16)), heard_ns(now) {}
    Connection connection;
    std::string nonce;
    int64_t heard_ns;
    int rank = -1;  // until it has proved that it is one
    bool ready = false, paced = false, closed = false;
    ProcessName process;
  };
  void serve();
  bool over() const;
  void wait();
  void accept_new();
  void read_from(Peer& peer);
  void take(Peer& peer, const base::Json& frame);
  void greet(Peer& peer, const base::Json& hello);
  void close(Peer& peer, const std::string& why);
  void check_left();
  void check_silence();
  void beat();
  double until_meeting_s() const;
  void meet_if_ready();
  void lose(int rank, const std::string& host, const std::string& why);
  void end(const base::Json& frame);
  void tell_all(const base::Json& frame);

  Settings settings_;
  ListeningSocket listening_;
  uint16_t port_;
  WakePipe wake_;
  std::atomic<bool> leaving_{false};
  Watched watched_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::set<int> here_, done_;  // ranks
  int64_t start_ns_, beat_ns_ = 0, met_ns_ = 0;
  std::optional<base::Json> end_;  // the frame that ended the run
  int64_t ended_ns_ = 0;
  std::thread thread_;
};

}  // namespace mlx_kd::discover
