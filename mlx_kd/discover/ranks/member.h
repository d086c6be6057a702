// A rank's side of its connection to the hub (protocol.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "mlx_kd/discover/ranks/connection.h"
#include "mlx_kd/discover/ranks/process_name.h"
#include "mlx_kd/discover/ranks/protocol.h"
#include "mlx_kd/discover/ranks/waiting.h"

namespace mlx_kd::discover {

class Member {
 public:
  struct Settings {
    std::string address;
    uint16_t port;
    std::string secret;
    int rank;
    RankLimits limits;
    // Called once, from the member's thread, when the run ends for all: a rank is lost, or one was
    // stopped.
    std::function<void()> on_end;
  };
  // Connected, and both sides have proved that they know the secret. Fails (room discover) if not.
  explicit Member(const Settings& settings);
  // Says that it is done, unless the run has ended.
  ~Member();

  // Waits until all ranks are ready. False where the run has ended for all.
  bool await_meeting(bool paced);
  // While it is true, only this thread can end this process: it is ended after grace_s.
  void set_collective(bool inside) { collective_ = inside; }
  void stop();
  void failed(const std::string& why);
  // Waits, at most seconds, for the hub to say who is lost; why the run ended, empty where it did
  // not or was stopped.
  std::string lost(double seconds = 0);
  bool stopped() const { return stopped_; }
  bool ended();

 private:
  void say_hello();
  base::Json await_frame(const std::string& kind);
  void watch();
  void read();
  void take(const base::Json& frame);
  void end(const std::string& why);
  void leave_if_caught();
  void send(const base::Json& frame);

  Settings settings_;
  Connection connection_;
  ProcessName hub_;
  Watched watched_;
  WakePipe wake_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  bool ended_ = false, met_ = false;
  std::string lost_;
  int64_t heard_ns_, beat_ns_ = 0, ended_ns_ = 0;  // the thread's own
  std::atomic<bool> leaving_{false}, stopped_{false}, collective_{false};
  std::thread thread_;
};

}  // namespace mlx_kd::discover
