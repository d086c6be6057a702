// The worker's side: one request per line, answered in order, until the socket closes.
//
//   {"do": "setup", "setup": {...}, "signature", "memory_fd": 4, "bandwidth": {...} | null} -> {}
//   {"do": "prepare"} -> {"seconds"}          {"do": "bandwidth"} -> {"bandwidth"}
//   {"do": "prove" | "time" | "claim" | "claim_again" | "aa", "candidate", "artifact", ...} ->
//   session.h
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process_tree.h"
#include "mlx_kd/evaluate/proof/guards.h"
#include "mlx_kd/evaluate/worker/session.h"

namespace mlx_kd::evaluate {
namespace {

// One side of the conversation.
struct Worker {
  int socket;
  std::string signature;
  std::unique_ptr<Session> session;

  // The descriptor of the shared memory, from the parent.
  int ask_for_memory() const {
    return send_line(socket, {{"need", "memory"}, {"signature", signature}})
               ? receive_descriptor(socket)
               : -1;
  }
};

base::Json set_up(const base::Json& request, Worker& worker) {
  worker.signature = request.at("signature").get<std::string>();
  sign_faults_with(worker.signature);
  worker.session = std::make_unique<Session>(setup_from_json(request.at("setup")),
                                             request.at("memory_fd").get<int>(),
                                             [&worker] { return worker.ask_for_memory(); });
  if (const auto& bandwidth = request.at("bandwidth"); !bandwidth.is_null())
    worker.session->set_bandwidth(bandwidth_from_json(bandwidth));
  return base::Json::object();
}

base::Json serve(const base::Json& request, Worker& worker) {
  Session* const session = worker.session.get();
  const auto what = request.at("do").get<std::string>();
  if (what == "setup") return set_up(request, worker);
  if (!session) base::fail("evaluate", "a worker was asked to '" + what + "' before its setup");
  if (what == "prepare") return session->prepare();
  if (what == "bandwidth") return session->bandwidth();
  if (what == "prove") return session->prove(request);
  if (what == "time") return session->time(request);
  if (what == "claim") return session->claim(request);
  if (what == "claim_again") return session->claim_again(request);
  if (what == "aa") return session->aa(request);
  base::fail("evaluate", "a worker does not know '" + what + "'");
}

base::Json answer(const std::string& line, Worker& worker) try {
  return serve(base::parse_json(line, "evaluate", "a request"), worker);
} catch (const base::Error& error) {
  return {{"error", error.what()}, {"exit_code", error.exit_code()}};
} catch (const std::exception& error) {
  return {{"error", std::string("[evaluate] ") + error.what()}, {"exit_code", 1}};
}

}  // namespace

int worker_main(int fd) {
  // A kernel may run forever; when the parent is gone no process is left to end it.
  std::thread([fd] {
    pollfd peer{fd, 0, 0};
    while (poll(&peer, 1, -1) <= 0 || !(peer.revents & (POLLHUP | POLLERR))) continue;
    _exit(0);
  }).detach();
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);  // candidates that crash leave no files
  report_faults_to(fd);
  base::keep_descendants();
  LineReader reader(fd);
  Worker worker{fd, "", nullptr};
  std::string line;
  while (reader.read(line, -1) == LineReader::Outcome::line) {
    base::Json reply = answer(line, worker);
    reply["signature"] = worker.signature;
    if (!send_line(fd, reply)) return 1;
  }
  return 0;
}

}  // namespace mlx_kd::evaluate
