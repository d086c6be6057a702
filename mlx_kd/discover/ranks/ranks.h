// The ranks of a cluster run as one of them sees them: who they are, and meetings with them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/discover/ranks/exchange.h"
#include "mlx_kd/discover/ranks/hub.h"
#include "mlx_kd/discover/ranks/member.h"

namespace mlx_kd::discover {

// Thrown by meet() where the user of some rank ended the run.
struct Stopped {};

class Ranks {
 public:
  // One rank and no launcher: meetings give back what they get.
  Ranks();
  // The ranks of an exchange, which all do the same. `address` is where rank 0 listens; empty: this
  // machine's loopback where all are on it, else the address of its host name, or
  // MLX_KD_RANKS_ADDRESS. on_end is called, once and from another thread, when the run ends for
  // all.
  Ranks(std::unique_ptr<Exchange> exchange, const std::string& address, const RankLimits& limits,
        std::function<void()> on_end);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(processes_.size()); }
  const std::vector<ProcessName>& processes() const { return processes_; }

  // Waits until all ranks are here, then gives each the bytes of all, in the order of ranks. Paced:
  // at most one a second. Throws Stopped; fails (room discover), naming the rank, where one is
  // lost.
  std::vector<std::string> meet(const std::string& bytes, bool paced);
  // Ends the run for all, as its user wants; from any thread.
  void stop();
  // Tells the others that this rank cannot go on.
  void failed(const std::string& why);

 private:
  friend std::unique_ptr<Ranks> join_ranks(std::function<void()> on_end);
  [[noreturn]] void leave(double seconds);

  std::unique_ptr<Exchange> exchange_;
  int rank_ = 0;
  std::vector<ProcessName> processes_;
  RankLimits limits_;
  bool alone_in_process_ = false;  // what ends this rank may end its process
  std::unique_ptr<Hub> hub_;
  std::unique_ptr<Member> member_;
};

// Joins the group of the launcher that started this process; nothing where none did.
std::unique_ptr<Ranks> join_ranks(std::function<void()> on_end);

}  // namespace mlx_kd::discover
