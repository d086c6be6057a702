#include "mlx_kd/evaluate/worker/messages.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::evaluate {
namespace {

#if defined(MSG_NOSIGNAL)
constexpr int kNoSignal = MSG_NOSIGNAL;
#else
constexpr int kNoSignal = 0;
#endif

base::Json setting_json(const spec::NamedInts& values) {
  base::Json result = base::Json::array();  // in order, which an object would lose
  for (const auto& [name, value] : values.items()) result.push_back({name, value});
  return result;
}

spec::NamedInts setting_from(const base::Json& value) {
  spec::NamedInts result;
  for (const auto& item : value)
    result.set(item.at(0).get<std::string>(), item.at(1).get<int64_t>());
  return result;
}

int milliseconds_until(int64_t deadline_ns) {
  const int64_t left = (deadline_ns - base::steady_ns() + 999999) / 1000000;
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1000));
}

}  // namespace

bool send_line(int fd, const base::Json& message) {
  const std::string text = message.dump(-1, ' ', true, base::Json::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = send(fd, text.data() + done, text.size() - done, kNoSignal);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

bool send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, kNoSignal) == 1;
}

int receive_descriptor(int socket) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, 0) != 1) return -1;
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

bool LineReader::take_line(std::string& line) {
  const size_t end = pending_.find('\n');
  if (end == std::string::npos) return false;
  line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return true;
}

LineReader::Outcome LineReader::read(std::string& line, double timeout_s) {
  const bool limited = timeout_s >= 0;
  const int64_t deadline = base::steady_ns() + static_cast<int64_t>(timeout_s * 1e9);
  char buffer[1 << 14];
  while (!take_line(line)) {
    pollfd ready{fd_, POLLIN, 0};
    const int events = poll(&ready, 1, limited ? milliseconds_until(deadline) : -1);
    if (events == 0 && base::steady_ns() >= deadline) return Outcome::timed_out;
    if (events <= 0) continue;
    const ssize_t n = ::read(fd_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Outcome::closed;
    pending_.append(buffer, static_cast<size_t>(n));
  }
  return Outcome::line;
}

base::Json to_json(const Setup& setup) {
  base::Json sizes = base::Json::array();
  for (const auto& dims : setup.sizes) sizes.push_back(setting_json(dims));
  return {
      {"op", setup.op_name},    {"device", setup.device_kind}, {"dtype", name_of(setup.dtype)},
      {"sizes", sizes},         {"params", setup.params},      {"seed", setup.seed},
      {"warmup", setup.warmup}, {"iters", setup.iters},        {"description", setup.description}};
}

Setup setup_from_json(const base::Json& value) {
  Setup result;
  result.op_name = value.at("op").get<std::string>();
  result.device_kind = value.at("device").get<std::string>();
  result.dtype = spec::parse_float_dtype(value.at("dtype").get<std::string>());
  for (const auto& dims : value.at("sizes")) result.sizes.push_back(setting_from(dims));
  result.params = value.at("params").get<std::vector<double>>();
  result.seed = value.at("seed").get<uint64_t>();
  result.warmup = value.at("warmup").get<int>();
  result.iters = value.at("iters").get<int>();
  result.description = value.at("description");
  return result;
}

base::Json to_json(const spec::Candidate& c) {
  return {{"op", c.op_name},
          {"variant", c.variant},
          {"language", c.language},
          {"dtype", name_of(c.dtype)},
          {"knobs", setting_json(c.knobs)},
          {"source", c.source},
          {"func_name", c.func_name},
          {"inputs_spec", c.inputs_spec},
          {"outputs_spec", c.outputs_spec},
          {"template_params", c.template_params},
          {"launch_params", c.launch_params},
          {"dim_names", c.dim_names},
          {"scalar_names", c.scalar_names},
          {"updates", c.updates}};
}

spec::Candidate candidate_from_json(const base::Json& value) {
  spec::Candidate result;
  result.op_name = value.at("op").get<std::string>();
  result.variant = value.at("variant").get<std::string>();
  result.language = value.at("language").get<std::string>();
  result.dtype = spec::parse_float_dtype(value.at("dtype").get<std::string>());
  result.knobs = setting_from(value.at("knobs"));
  result.source = value.at("source").get<std::string>();
  result.func_name = value.at("func_name").get<std::string>();
  result.inputs_spec = value.at("inputs_spec");
  result.outputs_spec = value.at("outputs_spec");
  result.template_params = value.at("template_params");
  result.launch_params = value.at("launch_params");
  result.dim_names = value.at("dim_names").get<std::vector<std::string>>();
  result.scalar_names = value.at("scalar_names").get<std::vector<std::string>>();
  result.updates = value.at("updates").get<std::vector<int>>();
  return result;
}

base::Json to_json(const devices::Artifact& artifact) {
  return {{"path", artifact.path.string()}, {"compile_ms", artifact.compile_ms}};
}

devices::Artifact artifact_from_json(const base::Json& value) {
  devices::Artifact result;
  result.ok = true;
  result.path = value.at("path").get<std::string>();
  result.compile_ms = value.at("compile_ms").get<double>();
  return result;
}

}  // namespace mlx_kd::evaluate
