#include "mlx_kd/discover/ranks/hub.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {
namespace {

constexpr double kLongestWaitS = 0.25;
constexpr double kFarewellS = 2;   // for ranks that are caught in a collective operation
constexpr size_t kStrangers = 16;  // connections that may be there in addition to the ranks'

// A connection is a file, and systems allow a process 1024 unless it asks for more.
int with_room_for(int size) {
  const rlim_t wanted = static_cast<rlim_t>(size) + 512;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < wanted) {
    files.rlim_cur = std::min(files.rlim_max, wanted);
    setrlimit(RLIMIT_NOFILE, &files);
  }
  return size;
}

}  // namespace

Hub::Hub(const Settings& settings)
    : settings_{settings.address, settings.secret, with_room_for(settings.size), settings.limits},
      listening_(listen_at(settings.address)),
      port_(listening_.port),
      start_ns_(watched_.now_ns()),
      thread_([this] { serve(); }) {}

Hub::~Hub() {
  leaving_ = true;
  wake_.wake();
  thread_.join();
}

// Rank 0 leaves last, so that no rank takes its end for a loss. What ended the run has to reach
// all: who has heard of it hangs up.
bool Hub::over() const {
  if (!leaving_) return false;
  if (done_.size() == static_cast<size_t>(settings_.size)) return true;
  const bool all_came = here_.size() == static_cast<size_t>(settings_.size);
  const bool all_went =
      std::none_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->rank >= 0; });
  return end_ && ((all_came && all_went) || watched_.since(ended_ns_) > kFarewellS);
}

void Hub::serve() {
  while (!over()) {
    wait();
    watched_.look(kLongestWaitS);
    accept_new();
    for (const auto& peer : peers_) read_from(*peer);
    std::erase_if(peers_, [](const auto& peer) { return peer->closed; });
    check_left();
    check_silence();
    beat();
    meet_if_ready();
  }
}

void Hub::wait() {
  std::vector<pollfd> waiting = {{wake_.fd(), POLLIN, 0}, {listening_.socket.fd(), POLLIN, 0}};
  for (const auto& peer : peers_) waiting.push_back({peer->connection.fd(), POLLIN, 0});
  const double longest = std::min(kLongestWaitS, settings_.limits.beat_s);
  const double wanted = std::clamp(until_meeting_s(), 0.001, longest);
  poll(waiting.data(), waiting.size(), static_cast<int>(1000 * wanted) + 1);
  wake_.clear();
}

void Hub::accept_new() {
  while (true) {
    Socket socket(::accept(listening_.socket.fd(), nullptr, nullptr));
    if (socket.fd() < 0) return;
    if (peers_.size() >= static_cast<size_t>(settings_.size) + kStrangers) continue;  // closes it
    peers_.push_back(std::make_unique<Peer>(std::move(socket), watched_.now_ns()));
    peers_.back()->connection.send({{"kind", "challenge"}, {"nonce", peers_.back()->nonce}});
  }
}

void Hub::read_from(Peer& peer) try {
  const bool open = peer.connection.read();
  while (!peer.closed) {
    const auto frame = peer.connection.next();
    if (!frame) break;
    peer.heard_ns = watched_.now_ns();
    take(peer, *frame);
  }
  if (!open && !peer.closed) close(peer, "it ended without a word");
} catch (const base::Error& error) {
  close(peer, error.what());
} catch (const base::Json::exception& error) {
  close(peer, error.what());
}

void Hub::take(Peer& peer, const base::Json& frame) {
  const std::string kind = frame.at("kind").get<std::string>();
  if (peer.rank < 0) return kind == "hello" ? greet(peer, frame) : close(peer, "");
  if (kind == "ready") {
    peer.ready = true;
    peer.paced = frame.at("paced").get<bool>();
  } else if (kind == "done") {
    done_.insert(peer.rank);
    peer.closed = true;
  } else if (kind == "failed") {
    close(peer, frame.at("why").get<std::string>());
  } else if (kind == "stop") {
    end({{"kind", "stop"}, {"rank", peer.rank}});
  }
}

void Hub::greet(Peer& peer, const base::Json& hello) {
  const uint64_t said = spec::count_of(hello.at("rank"));
  const int rank = said < kMaxRanks ? static_cast<int>(said) : -1;
  const std::string number = std::to_string(rank);
  const std::string proof = hmac_hex(settings_.secret, "hello " + peer.nonce + " " + number);
  const bool known = same_proof(proof, hello.at("proof").get<std::string>());
  if (!known || rank < 0 || rank >= settings_.size || here_.count(rank)) return close(peer, "");
  peer.rank = rank;
  here_.insert(rank);
  peer.process = process_from_json(hello.at("process"));
  const std::string nonce = hello.at("nonce").get<std::string>();
  peer.connection.send({{"kind", "welcome"},
                        {"proof", hmac_hex(settings_.secret, "welcome " + nonce + " " + number)},
                        {"process", to_json(own_process())}});
  if (end_) peer.connection.send(*end_);
}

// A connection that never was a rank may end.
void Hub::close(Peer& peer, const std::string& why) {
  peer.closed = true;
  if (peer.rank >= 0) lose(peer.rank, peer.process.host, why);
}

// A rank that waits for one that has left would wait forever.
void Hub::check_left() {
  const bool waiting =
      std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->ready; });
  if (waiting && !done_.empty()) lose(*done_.begin(), "", "it left before the others were done");
}

void Hub::check_silence() {
  for (const auto& peer : peers_) {
    const double silent = watched_.since(peer->heard_ns);
    if (peer->rank < 0 && silent > settings_.limits.hello_s) peer->closed = true;
    if (peer->rank < 0 || silent <= settings_.limits.silent_s) continue;
    close(*peer, "it has not been heard of for " + base::seconds_text(settings_.limits.silent_s));
    end_silent(peer->process);
  }
  if (watched_.since(start_ns_) < 2 * settings_.limits.hello_s) return;
  for (int rank = 0; rank < settings_.size && !end_; ++rank)
    if (!here_.count(rank)) lose(rank, "", "it has not connected to rank 0");
}

void Hub::beat() {
  if (watched_.since(beat_ns_) < settings_.limits.beat_s) return;
  beat_ns_ = watched_.now_ns();
  tell_all({{"kind", "beat"}});
}

// What is left of the time between two meetings; the longest wait where there is none to come.
double Hub::until_meeting_s() const {
  size_t ready = 0;
  bool paced = false;
  for (const auto& peer : peers_) {
    ready += peer->rank >= 0 && peer->ready;
    paced = paced || peer->paced;
  }
  if (end_ || ready < static_cast<size_t>(settings_.size)) return kLongestWaitS;
  const bool waits = paced && met_ns_ != 0;
  return waits ? settings_.limits.meeting_every_s - watched_.since(met_ns_) : 0;
}

void Hub::meet_if_ready() {
  if (until_meeting_s() > 0) return;
  met_ns_ = watched_.now_ns();
  for (const auto& peer : peers_) peer->ready = false;
  tell_all({{"kind", "meet"}});
}

void Hub::lose(int rank, const std::string& host, const std::string& why) {
  const std::string place = host.empty() ? "" : " on " + host;
  end({{"kind", "lost"},
       {"rank", rank},
       {"why", "rank " + std::to_string(rank) + place + " is lost: " + why}});
}

// The first reason is the one.
void Hub::end(const base::Json& frame) {
  if (end_) return;
  end_ = frame;
  ended_ns_ = watched_.now_ns();
  tell_all(frame);
}

void Hub::tell_all(const base::Json& frame) {
  for (const auto& peer : peers_)
    if (peer->rank >= 0 && !peer->closed) peer->connection.send(frame);
}

}  // namespace mlx_kd::discover
