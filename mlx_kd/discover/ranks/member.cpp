#include "mlx_kd/discover/ranks/member.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

constexpr double kLongestTurnS = 0.25;

}  // namespace

Member::Member(const Settings& settings)
    : settings_(settings),
      connection_(connect_to(settings.address, settings.port, settings.limits.hello_s)) {
  say_hello();
  heard_ns_ = watched_.now_ns();
  thread_ = std::thread([this] { watch(); });
}

Member::~Member() {
  leaving_ = true;
  wake_.wake();
  thread_.join();
  if (!ended_) connection_.send({{"kind", "done"}});
}

void Member::say_hello() {
  const std::string number = std::to_string(settings_.rank), nonce = random_hex(16);
  const std::string theirs = await_frame("challenge").at("nonce").get<std::string>();
  send({{"kind", "hello"},
        {"rank", settings_.rank},
        {"nonce", nonce},
        {"proof", hmac_hex(settings_.secret, "hello " + theirs + " " + number)},
        {"process", to_json(own_process())}});
  const base::Json welcome = await_frame("welcome");
  if (!same_proof(welcome.at("proof").get<std::string>(),
                  hmac_hex(settings_.secret, "welcome " + nonce + " " + number)))
    base::fail("discover", "who listens at " + settings_.address + ":" +
                               std::to_string(settings_.port) +
                               " is not rank 0 of this run: start the ranks again");
  hub_ = process_from_json(welcome.at("process"));
}

base::Json Member::await_frame(const std::string& kind) try {
  const int64_t start = base::steady_ns();
  while (base::seconds_since(start) < settings_.limits.hello_s) {
    pollfd waiting{connection_.fd(), POLLIN, 0};
    poll(&waiting, 1, 100);
    const bool open = connection_.read();
    while (const auto frame = connection_.next())
      if (frame->at("kind") == kind) return *frame;
    if (!open) break;
  }
  throw base::Error("no " + kind, 1);
} catch (const std::exception& error) {
  base::fail("discover", "rank 0 does not take this rank in (" + std::string(error.what()) +
                             "): start the ranks again");
}

void Member::watch() {
  while (!leaving_) {
    pollfd waiting[2] = {{wake_.fd(), POLLIN, 0}, {connection_.fd(), POLLIN, 0}};
    poll(waiting, ended_ ? 1 : 2, static_cast<int>(1000 * kLongestTurnS));
    wake_.clear();
    watched_.look(kLongestTurnS);
    if (!ended_) read();
    if (!ended_ && watched_.since(heard_ns_) > settings_.limits.silent_s) {
      end("rank 0 on " + hub_.host + " is lost: it has not been heard of for " +
          base::seconds_text(settings_.limits.silent_s));
      end_silent(hub_);
    }
    if (!ended_ && watched_.since(beat_ns_) >= settings_.limits.beat_s) {
      beat_ns_ = watched_.now_ns();
      send({{"kind", "beat"}});
    }
    leave_if_caught();
  }
}

void Member::read() try {
  const bool open = connection_.read();
  while (const auto frame = connection_.next()) {
    heard_ns_ = watched_.now_ns();
    take(*frame);
  }
  if (!open && !ended_) end("rank 0 on " + hub_.host + " is lost: it ended without a word");
} catch (const std::exception& error) {
  end("rank 0 on " + hub_.host + " is lost: " + error.what());
}

void Member::take(const base::Json& frame) {
  const std::string kind = frame.at("kind").get<std::string>();
  if (kind == "lost") return end(frame.at("why").get<std::string>());
  if (kind == "stop") return end("");
  if (kind != "meet") return;
  const std::lock_guard lock(mutex_);
  met_ = true;
  changed_.notify_all();
}

// Nothing lost: somebody stopped it.
void Member::end(const std::string& why) {
  if (ended_) return;
  {
    const std::lock_guard lock(mutex_);
    lost_ = why;
    stopped_ = why.empty();
    ended_ = true;
    ended_ns_ = watched_.now_ns();
    changed_.notify_all();
  }
  settings_.on_end();
}

// A collective operation whose partner is gone may never return.
void Member::leave_if_caught() {
  if (!ended_ || !collective_ || watched_.since(ended_ns_) < settings_.limits.grace_s) return;
  std::fprintf(stderr, "[discover] %s: the run ends, and what was measured is kept\n",
               lost_.empty() ? "a rank was stopped" : lost_.c_str());
  _exit(1);
}

bool Member::await_meeting(bool paced) {
  std::unique_lock lock(mutex_);
  if (ended_) return false;
  send({{"kind", "ready"}, {"paced", paced}});
  changed_.wait(lock, [&] { return met_ || ended_; });
  met_ = false;
  return !ended_;
}

void Member::stop() {
  send({{"kind", "stop"}});
}

void Member::failed(const std::string& why) {
  send({{"kind", "failed"}, {"why", why}});
}

std::string Member::lost(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return ended_; });
  return lost_;
}

bool Member::ended() {
  const std::lock_guard lock(mutex_);
  return ended_;
}

void Member::send(const base::Json& frame) {
  connection_.send(frame);
}

}  // namespace mlx_kd::discover
