#include "mlx_kd/discover/ranks/ranks.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

constexpr size_t kSecretBytes = 32;

// Ends the process if it lives for longer than that: MLX's backends wait forever for ranks that do
// not start.
class Deadline {
 public:
  Deadline(double seconds, std::string message)
      : thread_([this, seconds, message] {
          for (double waited = 0; !over_; waited += 0.02, usleep(20000))
            if (waited > seconds) leave(message);
        }) {}
  ~Deadline() {
    over_ = true;
    thread_.join();
  }

 private:
  [[noreturn]] static void leave(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    _exit(1);
  }
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// A broken group's library may wait for its other ranks until the end of time when the process
// ends.
void leave_within(double seconds) {
  std::thread([seconds] {
    usleep(static_cast<useconds_t>(1e6 * seconds));
    _exit(1);
  }).detach();
}

std::string loopback_or_named(const std::vector<ProcessName>& processes) {
  if (const char* given = std::getenv("MLX_KD_RANKS_ADDRESS")) return given;
  const bool one_machine = std::all_of(processes.begin(), processes.end(), [&](const auto& p) {
    return p.machine == processes.front().machine;
  });
  if (one_machine) return "127.0.0.1";
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_family = AF_INET;
  wanted.ai_socktype = SOCK_STREAM;
  std::string address;
  if (getaddrinfo(processes.front().host.c_str(), nullptr, &wanted, &found) == 0) {
    for (const addrinfo* one = found; one && address.empty(); one = one->ai_next) {
      char text[INET_ADDRSTRLEN];
      const auto* at = reinterpret_cast<const sockaddr_in*>(one->ai_addr);
      inet_ntop(AF_INET, &at->sin_addr, text, sizeof text);
      if (std::string(text).rfind("127.", 0) != 0) address = text;
    }
    freeaddrinfo(found);
  }
  if (address.empty())
    base::misuse("discover", "the host name of rank 0, '" + processes.front().host +
                                 "', has no address that other machines reach: give one in "
                                 "MLX_KD_RANKS_ADDRESS (mpirun -x MLX_KD_RANKS_ADDRESS=...)");
  return address;
}

std::vector<base::Json> gather_json(Exchange& exchange, const base::Json& mine) {
  std::vector<base::Json> all;
  for (const std::string& text : exchange.all_gather(mine.dump()))
    all.push_back(base::parse_json(text, "discover", "what a rank says of itself"));
  return all;
}

}  // namespace

Ranks::Ranks() : processes_{own_process()} {}

Ranks::Ranks(std::unique_ptr<Exchange> exchange, const std::string& address,
             const RankLimits& limits, std::function<void()> on_end)
    : exchange_(std::move(exchange)), rank_(exchange_->rank()), limits_(limits) {
  for (const base::Json& process : gather_json(*exchange_, to_json(own_process())))
    processes_.push_back(process_from_json(process));
  // What rank 0 cannot do is an error of all.
  base::Json mine = base::Json::object();
  if (rank_ == 0) try {
      const std::string secret = random_hex(kSecretBytes);
      const std::string at = address.empty() ? loopback_or_named(processes_) : address;
      hub_ = std::make_unique<Hub>(Hub::Settings{at, secret, size(), limits});
      mine = {{"address", at}, {"port", hub_->port()}, {"secret", secret}};
    } catch (const base::Error& error) {
      mine = {{"error", error.what()}, {"exit_code", error.exit_code()}};
    }
  const base::Json hub = gather_json(*exchange_, mine).front();
  if (hub.contains("error"))
    throw base::Error(hub["error"].get<std::string>(), hub["exit_code"].get<int>());
  member_ = std::make_unique<Member>(
      Member::Settings{hub.at("address").get<std::string>(), hub.at("port").get<uint16_t>(),
                       hub.at("secret").get<std::string>(), rank_, limits, std::move(on_end)});
}

Ranks::~Ranks() {
  if (std::uncaught_exceptions() > 0) failed("it ended by an error of its own");
  if (alone_in_process_ && member_ && member_->ended()) leave_within(limits_.grace_s);
  member_.reset();
  hub_.reset();
}

std::vector<std::string> Ranks::meet(const std::string& bytes, bool paced) {
  if (!exchange_) return {bytes};
  if (!member_->await_meeting(paced)) leave(0);
  member_->set_collective(true);
  try {
    auto parts = exchange_->all_gather(bytes);
    member_->set_collective(false);
    return parts;
  } catch (const base::Error&) {
    member_->set_collective(false);
    throw;
  } catch (const std::exception&) {
    member_->set_collective(false);
    leave(limits_.silent_s);
  }
}

// The hub says which rank it was, soon if not at once.
void Ranks::leave(double seconds) {
  std::string why = member_->lost(seconds);
  if (why.empty() && member_->stopped()) throw Stopped{};
  if (why.empty()) why = "the group of the ranks is broken";
  base::fail("discover", why +
                             ": what was measured is kept, so start the same command again "
                             "with --resume, with as many ranks as there are then");
}

void Ranks::stop() {
  if (member_) member_->stop();
}

void Ranks::failed(const std::string& why) {
  if (member_) member_->failed(why);
}

std::unique_ptr<Ranks> join_ranks(std::function<void()> on_end) {
  const auto launch = find_launch([](const char* name) { return std::getenv(name); });
  if (!launch) return nullptr;
  const RankLimits limits;
  const Deadline deadline(
      limits.form_s,
      "[discover] rank " + std::to_string(launch->rank) + " of " + std::to_string(launch->size) +
          " waited " + base::seconds_text(limits.form_s) +
          " for the others: see which of them did not start, and start all of them again");
  prepare(*launch);
  auto ranks =
      std::make_unique<Ranks>(open_group(*launch), launch->address, limits, std::move(on_end));
  ranks->alone_in_process_ = true;
  return ranks;
}

}  // namespace mlx_kd::discover
