// What parent and worker say to each other: one JSON value a line, over a socket.
//
// Requests: {"do": "setup" | "bandwidth" | "prepare" | "prove" | "time" | "claim" | "claim_again" |
// "aa", ...}; worker.cpp has their fields. Each is answered by one line: an object, with "error"
// and "exit_code" where the request could not be carried out. Every line of a worker holds the word
// that its setup gave it, "signature": a kernel that writes to the socket does not know it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluator.h"

namespace mlx_kd::evaluate {

// False if the other side is gone.
bool send_line(int fd, const base::Json& message);

// A descriptor through a socket; -1 if the other side is gone.
bool send_descriptor(int socket, int fd);
int receive_descriptor(int socket);

// Lines from a socket; keeps what arrived beyond one.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}
  enum class Outcome { line, closed, timed_out };
  // Waits at most timeout_s (negative: forever).
  Outcome read(std::string& line, double timeout_s);

 private:
  bool take_line(std::string& line);
  int fd_;
  std::string pending_;
};

// Everything a worker has to know about the task.
struct Setup {
  std::string op_name, device_kind;
  base::Json description = {};  // Op::description: null for one of the table
  spec::Dtype dtype = spec::Dtype::float32;
  std::vector<spec::Dims> sizes;
  std::vector<double> params;
  uint64_t seed = 0;
  int warmup = 0, iters = 0;
};
base::Json to_json(const Setup& setup);
Setup setup_from_json(const base::Json& value);

base::Json to_json(const spec::Candidate& candidate);
spec::Candidate candidate_from_json(const base::Json& value);

base::Json to_json(const devices::Artifact& artifact);
devices::Artifact artifact_from_json(const base::Json& value);

}  // namespace mlx_kd::evaluate
