// Ranks as threads of one process: meetings, and all that can go wrong between them.
#include "mlx_kd/discover/ranks/ranks.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include <barrier>
#include <chrono>
#include <mutex>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

// What MLX's group does, among threads.
class Table {
 public:
  explicit Table(int size) : parts_(static_cast<size_t>(size)), barrier_(size) {}
  std::vector<std::string> all_gather(int rank, std::string_view bytes) {
    parts_[static_cast<size_t>(rank)] = bytes;
    barrier_.arrive_and_wait();
    const std::vector<std::string> all = parts_;
    barrier_.arrive_and_wait();
    return all;
  }
  int size() const { return static_cast<int>(parts_.size()); }

 private:
  std::vector<std::string> parts_;
  std::barrier<> barrier_;
};

class Seat final : public Exchange {
 public:
  Seat(Table& table, int rank) : table_(table), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return table_.size(); }
  std::vector<std::string> all_gather(std::string_view bytes) override {
    return table_.all_gather(rank_, bytes);
  }

 private:
  Table& table_;
  int rank_;
};

RankLimits quick() {
  RankLimits limits;
  limits.beat_s = 0.05;
  limits.silent_s = 1.5;
  limits.hello_s = 5;
  limits.meeting_every_s = 0.1;
  return limits;
}

// Runs `work` on each of `size` ranks; what each threw, "stopped" for Stopped.
std::vector<std::string> on_ranks(int size, const std::function<void(Ranks&)>& work) {
  Table table(size);
  std::vector<std::string> ends(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        Ranks ranks(std::make_unique<Seat>(table, rank), "", quick(), [] {});
        work(ranks);
      } catch (const base::Error& error) {
        ends[static_cast<size_t>(rank)] = error.what();
      } catch (const Stopped&) {
        ends[static_cast<size_t>(rank)] = "stopped";
      }
    });
  for (std::thread& thread : threads) thread.join();
  return ends;
}

TEST(RanksTest, AMeetingGivesEachTheBytesOfAll) {
  const auto ends = on_ranks(4, [](Ranks& ranks) {
    for (int round = 0; round < 5; ++round) {
      const std::string mine(static_cast<size_t>(ranks.rank()), 'x');
      const auto all = ranks.meet(mine + std::to_string(round), false);
      ASSERT_EQ(all.size(), 4u);
      for (size_t rank = 0; rank < 4; ++rank)
        EXPECT_EQ(all[rank], std::string(rank, 'x') + std::to_string(round));
    }
  });
  EXPECT_EQ(ends, std::vector<std::string>(4));
}

TEST(RanksTest, OneAloneMeetsItself) {
  Ranks alone;
  EXPECT_EQ(alone.size(), 1);
  EXPECT_EQ(alone.meet("mine", true), std::vector<std::string>{"mine"});
}

TEST(RanksTest, PacedMeetingsKeepTheirDistance) {
  const int64_t start = base::steady_ns();
  on_ranks(3, [](Ranks& ranks) {
    for (int round = 0; round < 4; ++round) ranks.meet("", true);
  });
  EXPECT_GE(base::seconds_since(start), 0.3);
}

TEST(RanksTest, NoMeetingBeginsBeforeTheSlowestIsReady) {
  std::atomic<int> ready{0};
  const auto ends = on_ranks(3, [&](Ranks& ranks) {
    if (ranks.rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ++ready;
    ranks.meet("", false);
    EXPECT_EQ(ready, 3);
  });
  EXPECT_EQ(ends, std::vector<std::string>(3));
}

double processor_s() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

TEST(RanksTest, WaitingForTheSlowestTakesNoProcessor) {
  const double before = processor_s();
  on_ranks(3, [&](Ranks& ranks) {
    if (ranks.rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    ranks.meet("", false);
  });
  EXPECT_LT(processor_s() - before, 0.3);
}

// Signs of life come from a thread that a measurement does not hold up.
TEST(RanksTest, ARankThatIsBusyForLongerThanSilenceIsSufferedIsNotLost) {
  const auto ends = on_ranks(2, [](Ranks& ranks) {
    const int64_t start = base::steady_ns();
    while (ranks.rank() == 1 && base::seconds_since(start) < 1.5 * quick().silent_s) {
    }
    ranks.meet("", false);
  });
  EXPECT_EQ(ends, std::vector<std::string>(2));
}

TEST(RanksTest, ARankThatFailsEndsTheRunForAllAndIsNamed) {
  const auto ends = on_ranks(3, [](Ranks& ranks) {
    ranks.meet("", false);
    if (ranks.rank() == 1) base::fail("archive", "the disk is full: free some space");
    ranks.meet("", false);
  });
  for (const int rank : {0, 2}) {
    const std::string& end = ends[static_cast<size_t>(rank)];
    EXPECT_NE(end.find("rank 1 on "), std::string::npos) << end;
    EXPECT_NE(end.find("--resume"), std::string::npos) << end;
  }
}

TEST(RanksTest, ARankThatLeavesEarlyEndsTheRunForAll) {
  const auto ends = on_ranks(3, [](Ranks& ranks) {
    if (ranks.rank() != 2) ranks.meet("", false);
  });
  EXPECT_NE(ends[0].find("rank 2"), std::string::npos) << ends[0];
  EXPECT_NE(ends[1].find("rank 2"), std::string::npos) << ends[1];
  EXPECT_EQ(ends[2], "");
}

TEST(RanksTest, AStopEndsTheRunForAllAsStopped) {
  const auto ends = on_ranks(3, [](Ranks& ranks) {
    if (ranks.rank() == 1) {
      ranks.stop();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    ranks.meet("", false);
  });
  EXPECT_EQ(ends, std::vector<std::string>(3, "stopped"));
}

// A rank by hand, to do what ours does not.
class Puppet {
 public:
  Puppet(uint16_t port, const std::string& secret, int rank)
      : connection_(connect_to("127.0.0.1", port, 5)) {
    const std::string nonce = await("challenge").value("nonce", "");
    base::Json process = to_json(own_process());
    process["host"] = "puppet";
    process["machine"] = "elsewhere";  // it is not to be ended
    connection_.send({{"kind", "hello"},
                      {"rank", rank},
                      {"nonce", "n"},
                      {"proof", hmac_hex(secret, "hello " + nonce + " " + std::to_string(rank))},
                      {"process", process}});
  }
  // The next frame of that kind; empty where the hub hangs up.
  base::Json await(const std::string& kind) {
    for (int turn = 0; turn < 500; ++turn) {
      pollfd waiting{connection_.fd(), POLLIN, 0};
      poll(&waiting, 1, 10);
      const bool open = connection_.read();
      while (const auto frame = connection_.next())
        if (frame->at("kind") == kind) return *frame;
      if (!open) break;
    }
    return base::Json::object();
  }
  void send(const base::Json& frame) { connection_.send(frame); }

 private:
  Connection connection_;
};

class HubTest : public testing::Test {
 protected:
  Hub hub_{{"127.0.0.1", "secret", 2, quick()}};
};

TEST_F(HubTest, WelcomesWhoKnowsTheSecretAndProvesThatItDoesToo) {
  Puppet rank(hub_.port(), "secret", 0), other(hub_.port(), "secret", 1);
  EXPECT_EQ(rank.await("welcome").value("proof", ""), hmac_hex("secret", "welcome n 0"));
  EXPECT_EQ(other.await("welcome").value("proof", ""), hmac_hex("secret", "welcome n 1"));
  rank.send({{"kind", "failed"}, {"why", "the test is over"}});
}

TEST_F(HubTest, StrangersAreTurnedAwayAndDoNotDisturb) {
  Puppet rank(hub_.port(), "secret", 0);
  ASSERT_FALSE(rank.await("welcome").empty());
  for (const auto& [secret, number] :
       std::vector<std::pair<std::string, int>>{{"guess", 1}, {"secret", 0}, {"secret", 2}}) {
    Puppet stranger(hub_.port(), secret, number);
    EXPECT_TRUE(stranger.await("welcome").empty()) << secret << number;
  }
  Socket silent = connect_to("127.0.0.1", hub_.port(), 5);
  Puppet other(hub_.port(), "secret", 1);
  EXPECT_FALSE(other.await("welcome").empty());
  for (Puppet* one : {&rank, &other}) one->send({{"kind", "ready"}, {"paced", false}});
  EXPECT_FALSE(rank.await("meet").empty());
  rank.send({{"kind", "failed"}, {"why", "the test is over"}});
}

TEST_F(HubTest, ARankWhoseConnectionClosesIsLost) {
  Puppet rank(hub_.port(), "secret", 0);
  {
    Puppet other(hub_.port(), "secret", 1);
    ASSERT_FALSE(other.await("welcome").empty());
  }
  const std::string why = rank.await("lost").value("why", "");
  EXPECT_NE(why.find("rank 1 on puppet"), std::string::npos) << why;
}

TEST_F(HubTest, ARankThatFallsSilentIsLost) {
  Puppet rank(hub_.port(), "secret", 0), other(hub_.port(), "secret", 1);
  ASSERT_FALSE(other.await("welcome").empty());
  std::string why;
  for (int turn = 0; turn < 100 && why.empty(); ++turn) {
    rank.send({{"kind", "beat"}});
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    pollfd none{-1, 0, 0};
    poll(&none, 1, 0);
    if (turn >= 35) why = rank.await("lost").value("why", "");
  }
  EXPECT_NE(why.find("rank 1 on puppet"), std::string::npos) << why;
  EXPECT_NE(why.find("not been heard of"), std::string::npos) << why;
}

TEST_F(HubTest, FramesThatAreNoneLoseTheRankThatSendsThem) {
  Puppet rank(hub_.port(), "secret", 0), other(hub_.port(), "secret", 1);
  ASSERT_FALSE(other.await("welcome").empty());
  other.send({{"kind", "ready"}});  // without "paced"
  EXPECT_NE(rank.await("lost").value("why", "").find("rank 1"), std::string::npos);
}

TEST(WatchedTest, TimeInWhichTheWatcherWasStoppedDoesNotCount) {
  Watched watched;
  watched.look(0.01);
  const int64_t heard = watched.now_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));
  watched.look(0.01);
  EXPECT_LT(watched.since(heard), 0.5);
}

}  // namespace
}  // namespace mlx_kd::discover
